//! The servers themselves.

use super::*;

#[test]
fn a_server_that_is_not_installed_says_what_to_do() {
    for kind in Kind::ALL {
        match kind.installed() {
            Ok(program) => assert!(program.is_file(), "{}", program.display()),
            Err(error) => assert!(error.contains("cargo xtask servers install"), "{error}"),
        }
    }
}

/// The ports on which the processes of a group listen, and the addresses.
fn listening(ports: &[u16]) -> Vec<String> {
    let table = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines =
        table.iter().flat_map(|text| text.lines()).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listens = lines.filter(|fields| fields.get(3) == Some(&"0A"));
    let local = listens.filter_map(|fields| fields.get(1).map(|local| (*local).to_owned()));
    let is_ours = |local: &String| ports.iter().any(|port| local.ends_with(&format!(":{port:04X}")));
    local.filter(is_ours).collect()
}

fn suites(server: &mut Server, report: &mut Report) {
    report.run("server: listens on loopback only", || {
        let found = listening(&server.ports);
        assert!(!found.is_empty() && found.iter().all(|local| local.starts_with("0100007F:")), "{found:?}");
    });
    report.run("server: bucket", || {
        let scheme = if server.kind() == Kind::Azurite { "az" } else { "s3" };
        for _ in 0..2 {
            assert_eq!(server.bucket("first").unwrap(), format!("{scheme}://first"));
        }
        for name in ["", "ab", "UPPER", "a/b", "a?b"] {
            assert!(server.bucket(name).is_err(), "{name}");
        }
    });
    report.run("server: list", || {
        if server.kind() == Kind::Azurite {
            assert!(server.list("first", "", "").unwrap_err().contains("S3"));
            return;
        }
        server.bucket("listed").unwrap();
        for key in ["a/1", "a/2", "a/3", "b/1"] {
            let path = format!("/listed/{key}");
            let fields = sign::s3("PUT", &path, &server.address().to_string());
            assert_eq!(request(server.address(), "PUT", &path, &fields, ERROR_BYTES_MAX).unwrap().0, 200);
        }
        let keys = |prefix: &str, after: &str| -> Vec<String> {
            let listed = server.list("listed", prefix, after).unwrap();
            assert!(listed.iter().all(|stored| stored.bytes == 0), "{listed:?}");
            listed.into_iter().map(|stored| stored.key).collect()
        };
        assert_eq!(keys("", ""), ["a/1", "a/2", "a/3", "b/1"]);
        assert_eq!(keys("a/", ""), ["a/1", "a/2", "a/3"]);
        assert_eq!(keys("a/", "a/2"), ["a/3"]);
        assert!(server.list("absent", "", "").is_err());
    });
    report.run("server: wrong signature", || {
        let answered = match server.kind() {
            Kind::SeaweedFs | Kind::Moto => {
                let mut fields = sign::s3("PUT", "/second", &server.address().to_string());
                if let Some((_, authorization)) = fields.last_mut() {
                    authorization.push('0');
                }
                request(server.address(), "PUT", "/second", &fields, ERROR_BYTES_MAX)
            }
            Kind::Azurite => {
                let fields = sign::azure(&format!("/{ACCOUNT}/second?restype=container"));
                let path = format!("/{ACCOUNT}/third?restype=container");
                request(server.address(), "PUT", &path, &fields, ERROR_BYTES_MAX)
            }
        };
        let expected = if server.kind() == Kind::Moto { 200 } else { 403 }; // moto does not check
        assert_eq!(answered.unwrap().0, expected);
    });
    report.run("server: restart", || {
        let ports = server.ports.clone();
        if server.kind() != Kind::SeaweedFs {
            assert!(server.restart().unwrap_err().contains("forgets data"));
            return;
        }
        for _ in 0..3 {
            server.kill();
            assert_eq!(listening(&ports), Vec::<String>::new());
            assert!(request(server.address(), "GET", "/", &[], ERROR_BYTES_MAX).is_err());
            server.restart().unwrap();
            // 409 and 200 count both: an empty bucket that is there already is no loss.
            server.bucket("first").unwrap();
        }
        assert_eq!(server.ports, ports);
    });
}

#[test]
fn seaweedfs() {
    with(Kind::SeaweedFs, "server", suites);
}

#[test]
fn moto() {
    with(Kind::Moto, "server", suites);
}

#[test]
fn azurite() {
    with(Kind::Azurite, "server", suites);
}
