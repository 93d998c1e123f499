//! Fresh keys between two daemons: they are there before the first connection, both logs and the statistics say so, and an end
//! that does not agree on any is refused in words where they are required.

use crate::harness::*;
use serde_json::json;

#[test]
fn both_ends_have_fresh_keys_and_say_so() {
    let http = free_port();
    let mut plan = Plan::to(serve(echo));
    plan.peer.insert("http_listen".into(), json!(http));
    let tunnel = plan.start();
    tunnel.peer.wait_for_log("has fresh keys");
    tunnel.server.wait_for_log("has fresh keys");
    ask(&connect(tunnel.entry), b"hello").expect("an answer");
    let fetch = |path: &str| {
        let stream = connect(format!("127.0.0.1:{http}").parse().expect("an address"));
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        std::io::Write::write_all(&mut &stream, request.as_bytes()).expect("sent");
        String::from_utf8(read_all(&stream).0).expect("text")
    };
    assert!(fetch("/stats.json").contains(r#""fresh_keys":true"#));
    assert!(fetch("/stats").contains("fresh"));
    assert!(fetch("/metrics").contains("\nkcptun_path_fresh_keys{path="));
}

#[test]
fn where_they_are_required_an_end_without_them_is_refused() {
    let mut plan = Plan::to(serve(echo));
    plan.peer.insert("forward_secrecy".into(), json!("require"));
    plan.server.insert("forward_secrecy".into(), json!("off"));
    let tunnel = plan.start();
    let client = connect(tunnel.entry);
    tunnel
        .peer
        .wait_for_log("does not agree on fresh keys, which forward_secrecy \"require\" asks for");
    drop(client);

    let mut plan = Plan::to(serve(echo));
    plan.peer.insert("forward_secrecy".into(), json!("off"));
    plan.server
        .insert("forward_secrecy".into(), json!("require"));
    let tunnel = plan.start();
    assert!(ask(&connect(tunnel.entry), b"hello").is_err());
    tunnel.server.wait_for_log(
        "forward_secrecy is \"require\", and its sender does not agree on fresh keys",
    );
}
