//! A kubeconfig whose API server is behind a relay: the same but for the address.

/// The address (HOST:PORT) of the one API server of a kubeconfig, and the text with `relay` in its
/// place. The name in its certificate is still that of the server.
///
/// # Errors
/// There is not exactly one, or it has no TLS.
pub fn relayed(text: &str, relay: std::net::SocketAddr) -> Result<(String, String), String> {
    let remedy = "write one with `kubectl config view --minify --flatten --raw`";
    if let Some(path) = FILES.iter().find_map(|key| relative(text, key)) {
        return Err(format!(
            "{path} is relative to its folder, and the copy is elsewhere; {remedy}"
        ));
    }
    let mut places = text.match_indices(SCHEME).map(|(at, _)| at).filter(|at| is_server(text, *at));
    let (Some(at), None) = (places.next(), places.next()) else {
        return Err(format!("it does not name exactly one https server; {remedy}"));
    };
    let rest = &text[at + SCHEME.len()..];
    let end = rest.find(|c: char| c.is_whitespace() || "\"'/,}".contains(c)).unwrap_or(rest.len());
    let authority = &rest[..end];
    // A colon within brackets is of the address.
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    };
    let address = if host == authority { format!("{host}:443") } else { authority.to_owned() };
    let name = match text.contains("tls-server-name") {
        true => String::new(),
        false => name_line(text, at, host.trim_matches(['[', ']'])),
    };
    let after = &rest[end..];
    // The rest of the line: a closing quote, a path.
    let line = after.find('\n').unwrap_or(after.len());
    let (tail, after) = match text[..at].ends_with('"') && is_json(text) {
        true => after.split_at(after.find('"').map_or(0, |quote| quote + 1)),
        false => after.split_at(line),
    };
    Ok((address, format!("{}{SCHEME}{relay}{tail}{name}{after}", &text[..at])))
}

const SCHEME: &str = "https://";
/// What names files.
const FILES: [&str; 4] = ["certificate-authority", "client-certificate", "client-key", "tokenFile"];

/// The value of a key that is a path below the folder of the kubeconfig.
fn relative<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let values = text.match_indices(key).filter_map(|(at, _)| {
        // `certificate-authority-data` is another key.
        let rest = text[at + key.len()..].trim_start_matches('"').strip_prefix(':')?;
        let rest = rest.trim_start_matches([' ', '"', '\'']);
        rest.split(['"', '\'', ',', '\n', '}']).next()
    });
    values.map(str::trim).find(|path| !path.is_empty() && !path.starts_with('/'))
}

/// Whether what begins here is the value of `server`.
fn is_server(text: &str, at: usize) -> bool {
    let before = text[..at].trim_end_matches(['"', '\'', ' ']);
    before.trim_end_matches(':').trim_end_matches(['"', ' ']).ends_with("server")
        && before.ends_with(':')
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// What says which name the certificate has, for what follows the value at `at`.
fn name_line(text: &str, at: usize, host: &str) -> String {
    if is_json(text) {
        return format!(",\"tls-server-name\":\"{host}\"");
    }
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let indent = text[line..at].find("server").unwrap_or(0);
    format!("\n{}tls-server-name: {host}", " ".repeat(indent))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: ([u8; 4], u16) = ([127, 0, 0, 1], 7443);

    #[test]
    fn yaml_and_json_get_the_relay_and_keep_the_name() {
        let yaml = "clusters:\n- cluster:\n    server: https://api.example:6443\n  name: x\n";
        let (address, text) = relayed(yaml, RELAY.into()).unwrap();
        assert_eq!(address, "api.example:6443");
        let expected = "clusters:\n- cluster:\n    server: https://127.0.0.1:7443\n    \
                        tls-server-name: api.example\n  name: x\n";
        assert_eq!(text, expected);

        let json = r#"{"clusters":[{"cluster":{"server":"https://127.0.0.1:6443","x":"y"}}]}"#;
        let (address, text) = relayed(json, RELAY.into()).unwrap();
        assert_eq!(address, "127.0.0.1:6443");
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cluster = &parsed["clusters"][0]["cluster"];
        assert_eq!(cluster["server"], "https://127.0.0.1:7443");
        assert_eq!(cluster["tls-server-name"], "127.0.0.1");
    }

    #[test]
    fn quotes_paths_and_missing_ports_are_borne() {
        let yaml = "  server: \"https://api.example/k8s\"\n";
        let (address, text) = relayed(yaml, RELAY.into()).unwrap();
        assert_eq!(address, "api.example:443");
        let expected = "  server: \"https://127.0.0.1:7443/k8s\"\n  tls-server-name: api.example\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn addresses_in_brackets_and_names_that_are_there_are_kept() {
        let yaml = "  server: https://[fd00::1]\n  tls-server-name: api\n";
        let (address, text) = relayed(yaml, RELAY.into()).unwrap();
        assert_eq!(address, "[fd00::1]:443");
        assert_eq!(text, "  server: https://127.0.0.1:7443\n  tls-server-name: api\n");
    }

    #[test]
    fn files_beside_it_would_be_lost() {
        let yaml = "  server: https://a:1\n  certificate-authority: ca.crt\n";
        assert!(relayed(yaml, RELAY.into()).unwrap_err().contains("ca.crt is relative"));
        let whole = "  server: https://a:1\n  certificate-authority: /etc/ca.crt\n  \
                     certificate-authority-data: x\n";
        assert!(relayed(whole, RELAY.into()).is_ok());
    }

    #[test]
    fn several_servers_or_none_are_refused() {
        let two = "  server: https://a:1\n  server: https://b:2\n";
        for text in [two, "", "  server: http://a:1\n", "token: https://x\n"] {
            assert!(relayed(text, RELAY.into()).unwrap_err().contains("--minify"), "{text}");
        }
    }
}
