//! Host keys as `ssh-keyscan` prints them.

/// Port that known hosts files leave out.
pub(super) const SSH_PORT: u16 = 22;

/// Whether `key` (as sent by the server) is listed for the host.
///
/// # Errors
/// In words: not listed, another key listed, revoked, or the file hides its host names.
pub(super) fn check(file: &str, host: &str, port: u16, key: &[u8]) -> Result<(), String> {
    let wanted = if port == SSH_PORT { host.to_owned() } else { format!("[{host}]:{port}") };
    let encoded = base64(key);
    let (mut other, mut hashed, mut kinds) = (false, false, Vec::new());
    for line in file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut fields = line.split_whitespace();
        let first = fields.next().unwrap_or("");
        let (marker, hosts) =
            if first.starts_with('@') { (first, fields.next().unwrap_or("")) } else { ("", first) };
        hashed |= hosts.starts_with('|');
        let kind = fields.next().unwrap_or("");
        let listed = fields.next() == Some(encoded.as_str());
        if !hosts.split(',').any(|pattern| pattern.eq_ignore_ascii_case(&wanted)) {
            continue;
        }
        match (marker, listed) {
            ("@revoked", true) => return Err(format!("the host key of {wanted} is revoked")),
            ("", true) => return Ok(()),
            _ => {
                other = true;
                kinds.push(kind);
            }
        }
    }
    let hint = format!("compare with `ssh-keyscan -p {port} {host}` over a network you trust");
    let offered = kind_of(key);
    Err(match (other, hashed) {
        (true, _) if !offered.is_empty() && !kinds.contains(&offered) => format!(
            "the host key of {wanted} is of the kind {offered}, and known hosts lists only {}; list every line that \
             `ssh-keyscan -p {port} {host}` prints over a network you trust",
            kinds.join(", ")
        ),
        (true, _) => format!("the host key of {wanted} is not the known one; {hint}"),
        (false, true) => {
            format!("{wanted} is not listed in plain in known hosts; hashed names are not read, {hint}")
        }
        (false, false) => format!("{wanted} is not in known hosts; {hint}"),
    })
}

/// The kind that a key names at its beginning: `ssh-ed25519`.
fn kind_of(key: &[u8]) -> &str {
    let name = key
        .split_first_chunk::<4>()
        .and_then(|(length, rest)| rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?));
    name.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            let digit = ALPHABET.get(index as usize).copied().unwrap_or(b'=');
            out.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_key_of_the_listed_host_is_trusted() {
        let file =
            "# hosts\nhost.example,10.0.0.1 ssh-ed25519 a2V5 comment\n[host.example]:2222 ssh-rsa b3RoZXI=\n";
        assert_eq!(check(file, "host.example", 22, b"key"), Ok(()));
        assert_eq!(check(file, "HOST.example", 2222, b"other"), Ok(()));
        assert!(check(file, "host.example", 22, b"other").unwrap_err().contains("not the known one"));
        assert!(check(file, "unknown", 22, b"key").unwrap_err().contains("not in known hosts"));
        assert!(check("@revoked h ssh-rsa a2V5", "h", 22, b"key").unwrap_err().contains("revoked"));
        assert!(check("|1|x|y ssh-rsa a2V5", "h", 22, b"key").unwrap_err().contains("hashed"));
    }

    #[test]
    fn a_key_of_a_kind_that_is_not_listed_is_said_to_be_so() {
        let key = b"\0\0\0\x0bssh-ed25519rest";
        let said = check("h ssh-rsa a2V5\nh ecdsa-sha2-nistp256 a2V5\n", "h", 22, key).unwrap_err();
        assert!(said.contains("kind ssh-ed25519") && said.contains("ssh-rsa, ecdsa-sha2-nistp256"), "{said}");
        let said = check("h ssh-ed25519 a2V5", "h", 22, key).unwrap_err();
        assert!(said.contains("not the known one"), "{said}");
    }

    #[test]
    fn base64_as_in_the_standard() {
        for (text, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}
