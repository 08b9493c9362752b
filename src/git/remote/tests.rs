use super::*;

#[test]
fn places_are_told_apart_as_git_does() {
    for (url, local) in [("/srv/repo.git", "/srv/repo.git"), ("file:///srv/r", "/srv/r"), ("./a:b", "./a:b")] {
        assert_eq!(locate(url), Location::Local(PathBuf::from(local)), "{url}");
    }
    for url in ["git@host:team/repo.git", "host:repo", "ssh://git@host:2222/x"] {
        assert_eq!(locate(url), Location::Ssh, "{url}");
    }
    assert_eq!(locate("https://host/x"), Location::Http);
}

#[test]
fn secrets_stay_where_they_belong() {
    let token = || Credentials::Token { username: None, token_file: "/t".into() };
    assert!(Remote::new("http://example.com/x", token()).is_err());
    assert!(Remote::new("http://127.0.0.1:8080/x", token()).is_ok());
    assert!(Remote::new("ssh://git@host/x", Credentials::None).is_err());
    let unknown = Remote::new("ftp://host/x", Credentials::None).unwrap_err().to_string();
    assert!(unknown.contains("its scheme is not known"), "{unknown}");
    let key = || Credentials::Key { key_file: "/k".into(), known_hosts: "/h".into() };
    for (url, credentials) in [
        ("https://bob:s3cret@host/x", Credentials::None),
        ("https://s3cret@host/x", token()),
        ("https://host/x?private_token=s3cret", Credentials::None),
        ("https://host/x#s3cret", Credentials::None),
        ("ssh://bob:s3cret@host/x", key()),
    ] {
        let error = Remote::new(url, credentials).unwrap_err().to_string();
        assert!(error.contains("//host/x") && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn an_exchange_that_never_ends_is_ended() {
    let remote = Remote::new("https://host/x", Credentials::None).unwrap();
    let failed = git2::Error::from_str("callback returned -7");
    let talk = remote.talk(Until::after(std::time::Duration::from_secs(60)));
    assert!(talk.goes_on(false) && !talk.ended_it());
    assert!(!talk.goes_on(true) && !talk.goes_on(false), "ended for good");
    let error = talk.error(&failed);
    assert!(matches!(&error, GitError::Remote { .. }) && error.to_string().contains("2 GiB"), "{error}");
    let late = remote.talk(Until::after(std::time::Duration::ZERO));
    assert!(!late.goes_on(false) && late.ended_it());
    assert!(late.error(&failed).is_transient());
}

#[test]
fn an_origin_is_scheme_host_and_port() {
    let given = origin("https://git.example.com/team/repo.git").unwrap();
    for same in ["https://git.example.com:443/other", "HTTPS://GIT.EXAMPLE.COM/x", "https://u@git.example.com/x"] {
        assert_eq!(origin(same).as_ref(), Some(&given), "{same}");
    }
    for other in [
        "http://git.example.com/team/repo.git",
        "https://git.example.com:8443/x",
        "https://git.example.com.evil.org/x",
        "https://evil.org/git.example.com",
        "https://git.example.com@evil.org/x",
        "https://git.example.com:x/y",
        "/git.example.com",
    ] {
        assert_ne!(origin(other).as_ref(), Some(&given), "{other}");
    }
    assert_eq!(origin("http://[::1]:80/x"), origin("http://[::1]/x"));
}

#[test]
fn a_url_that_names_nothing_is_refused() {
    let key = || Credentials::Key { key_file: "/k".into(), known_hosts: "/h".into() };
    for (url, credentials) in [
        ("", Credentials::None),
        ("https://", Credentials::None),
        ("https:///x", Credentials::None),
        ("https://ho st/x", Credentials::None),
        ("https://host/\nx", Credentials::None),
        ("ssh://-oProxyCommand=x/y", key()),
        ("ssh://git@-oProxyCommand=x/y", key()),
        ("-oProxyCommand=x:y", key()),
        ("ext::sh -c x", Credentials::None),
    ] {
        assert!(Remote::new(url, credentials).is_err(), "{url}");
    }
    assert!(Remote::new("git@host:team/repo.git", key()).is_ok());
    assert!(Remote::new("ssh://git@[::1]:2222/repo.git", key()).is_ok());
    assert!(Remote::new("/srv/my repo.git", Credentials::None).is_ok());
}
