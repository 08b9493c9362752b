//! The `pod-template-hash` label: 32-bit FNV-1a in the alphabet that Kubernetes uses so that no words are spelt.

use k8s_openapi::api::core::v1::PodTemplateSpec;

const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// Hash of a template. `collisions` is the Deployment's `status.collisionCount`, which a name already taken by another
/// template raises. The value differs from a real cluster's (which hashes Go's printed structs); its form does not.
pub(super) fn template_hash(
    template: &PodTemplateSpec,
    collisions: Option<i32>,
) -> Result<String, serde_json::Error> {
    let mut hash = fnv1a(FNV_OFFSET, &serde_json::to_vec(template)?);
    if let Some(count) = collisions {
        hash = fnv1a(hash, &count.to_le_bytes());
    }
    Ok(safe_encode(&hash.to_string()))
}

/// Short stable suffix for names that are derived from text.
pub(in crate::controllers) fn name_suffix(text: &str) -> String {
    safe_encode(&fnv1a(FNV_OFFSET, text.as_bytes()).to_string())
}

fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME))
}

fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_and_alphabet_are_kubernetes() {
        assert_eq!(fnv1a(FNV_OFFSET, b"foobar"), 0xbf9c_f968);
        // As Go's rand.SafeEncodeString spells it.
        assert_eq!(safe_encode("1234567890"), "56789bcdf4");
    }

    #[test]
    fn collisions_change_the_hash() -> Result<(), serde_json::Error> {
        let template = PodTemplateSpec::default();
        assert_ne!(template_hash(&template, None)?, template_hash(&template, Some(1))?);
        Ok(())
    }
}
