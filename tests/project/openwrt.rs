//! OpenWrt's init script, run by a POSIX shell with stand-ins for OpenWrt's own shell functions (`openwrt/mock.sh`): what it
//! makes of its configuration, and what procd is told to run. And the files that the package is made of.

use crate::harness::*;
use kcptun::config::Config;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The shells that are tried: what `sh` is here, and what OpenWrt has.
const SHELLS: [&[&str]; 2] = [&["sh"], &["busybox", "sh"]];

/// A configuration of OpenWrt's, and the directory that the script makes beside it.
struct Router {
    config: File,
    run: PathBuf,
}

impl Router {
    fn new(config: &str) -> Router {
        let config = File::new(config);
        let run = config.path.with_file_name("run");
        Router { config, run }
    }

    /// What procd is told, and what is said to whoever starts the script. None where there is no such shell.
    fn start(&self, shell: &[&str]) -> Option<(Vec<String>, String)> {
        let _ = fs::remove_dir_all(&self.run);
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let out = Command::new(shell[0])
            .args(&shell[1..])
            .arg(root.join("tests/project/openwrt/mock.sh"))
            .arg(root.join("examples/openwrt/kcptun.init"))
            .arg(&self.config.path)
            .arg(env!("CARGO_BIN_EXE_kcptun"))
            .arg(&self.run)
            .output();
        let Ok(out) = out else {
            skipped(&format!("there is no {}", shell[0]));
            return None;
        };
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let told = text(out.stdout).lines().map(str::to_owned).collect();
        Some((told, text(out.stderr)))
    }

    fn file(&self, tunnel: &str) -> PathBuf {
        self.run.join(format!("{tunnel}.json"))
    }

    /// What procd is to be told about a tunnel with this configuration.
    fn instance(tunnel: &str, file: &Path) -> Vec<String> {
        let (program, file) = (env!("CARGO_BIN_EXE_kcptun"), file.display());
        let lines = [
            format!("open {tunnel}"),
            format!("param command {program} -c {file} -u nobody:nogroup"),
            format!("param file {file}"),
            "param limits nofile=65536 65536".into(),
            "param respawn 3600 5 0".into(),
            "param stderr 1".into(),
            "close".into(),
        ];
        lines.to_vec()
    }
}

#[test]
fn every_enabled_tunnel_is_run_with_its_own_configuration() {
    let own = File::new(&format!(
        r#"{{"udp_bind": ":27290", "connect": "127.0.0.1:22", "psk": "{PSK}"}}"#
    ));
    fs::set_permissions(&own.path, fs::Permissions::from_mode(0o600)).expect("a mode");
    let router = Router::new(&format!(
        "
config tunnel 'home'
	option enabled '1'
	option listen '192.168.1.1:2222'
	option udp_connect 'vps.lan:27290'
	option password 'a \"strange\" \\ one'
	option method 'aes256gcm'
	option timeout '90'
	option loglevel '3'
	option mtu '1280'
	option rate_up '16.5'

config tunnel 'resting'
	option enabled '0'
	option listen ':2223'
	option udp_connect '192.0.2.1:27290'
	option psk '{PSK}'

config tunnel 'unsaid'
	option listen ':2224'

config tunnel 'service'
	option enabled 'on'
	option udp_bind ':27290'
	option connect '127.0.0.1:22'
	option psk '{PSK}'

config tunnel 'whole'
	option enabled '1'
	option file '{}'
",
        own.path.display()
    ));
    for shell in SHELLS {
        let Some((told, said)) = router.start(shell) else {
            continue;
        };
        assert_eq!(said, "");
        let (home, service) = (router.file("home"), router.file("service"));
        let expected = [
            Router::instance("home", &home),
            Router::instance("service", &service),
            Router::instance("whole", &own.path),
            vec!["trigger kcptun".into()],
        ];
        assert_eq!(told, expected.concat());

        let config = Config::load(&home).expect("a configuration");
        assert_eq!(config.warnings, [""; 0]);
        let listen = config.listen.map(|at| at.to_string());
        assert_eq!(listen.as_deref(), Some("192.168.1.1:2222"));
        let there = config.udp_connect.map(|at| at.to_string());
        assert_eq!(there.as_deref(), Some("vps.lan:27290"));
        let text = fs::read_to_string(&home).expect("a file");
        for part in [
            r#""password": "a \"strange\" \\ one""#,
            r#""method": "aes256gcm""#,
            r#""timeout": 90"#,
            r#""kcp": {"mtu": 1280}"#,
            r#""rate": {"up": 16.5}"#,
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!((config.loglevel, config.kcp.mtu), (3, 1280));
        // the keys are in there
        let mode = |path: &Path| {
            fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
        };
        assert_eq!(
            (mode(&home) & 0o777, mode(&router.run) & 0o777),
            (0o600, 0o700)
        );
        assert!(Config::load(&service).is_ok_and(|config| config.connect.is_some()));
        for tunnel in ["resting", "unsaid", "whole"] {
            assert!(!router.file(tunnel).exists(), "{tunnel}");
        }
    }
}

#[test]
fn a_wrong_tunnel_says_why_and_keeps_no_other_from_running() {
    let router = Router::new(&format!(
        "
config tunnel 'wrong'
	option enabled '1'
	option listen ':2222'
	option udp_connect '192.0.2.1:27290'
	option psk 'YOUR KEY'

config tunnel 'right'
	option enabled '1'
	option listen ':2223'
	option udp_connect '192.0.2.1:27290'
	option psk '{PSK}'
"
    ));
    for shell in SHELLS {
        let Some((told, said)) = router.start(shell) else {
            continue;
        };
        assert!(said.contains("wrong.json: psk: ") && said.lines().count() == 1);
        let right = Router::instance("right", &router.file("right"));
        assert_eq!(told[..right.len()], right[..]);
        assert_eq!(told.len(), right.len() + 1, "{told:?}");
    }
}

#[test]
fn the_configuration_that_comes_with_it_runs_once_it_is_enabled_and_has_a_key() {
    let shipped = include_str!("../../examples/openwrt/kcptun.config");
    let enabled = shipped
        .replace("enabled '0'", "enabled '1'")
        .replace("YOUR KEY", PSK);
    let not_enabled = "kcptun: no tunnel is enabled in /etc/config/kcptun\n";
    for (config, instances, words) in [(shipped, 0, not_enabled), (enabled.as_str(), 1, "")] {
        let router = Router::new(config);
        let (told, said) = router.start(SHELLS[0]).expect("there is a shell");
        assert_eq!(said, words);
        let opened = told.iter().filter(|line| line.starts_with("open "));
        assert_eq!(opened.count(), instances, "{told:?}");
    }
}

#[test]
fn the_package_is_made_of_files_that_are_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = include_str!("../../examples/openwrt/Makefile");
    let (_, copied) = makefile.split_once("&& $(CP) ").expect("it copies files");
    let (copied, _) = copied.split_once(" $(PKG_BUILD_DIR)").expect("to there");
    let copied: Vec<&str> = copied.split_whitespace().collect();
    for name in ["Cargo.toml", "Cargo.lock", "LICENSE", "src"] {
        assert!(copied.contains(&name), "{name} is not copied");
    }
    for name in copied {
        assert!(root.join(name).exists(), "{name} is not there");
    }
}
