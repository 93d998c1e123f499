#!/bin/sh
# Builds static programs for OpenWrt's routers, in target/openwrt/ARCHITECTURE/kcptun:
#   examples/openwrt/build.sh [mipsel|mips|armv7|aarch64]...     without a name all four
# Needs Rust with its sources (rustup component add rust-src; Debian: apt install rust-src), for which Rust has no finished
# library for mips, and zig as the C compiler and linker:
#   pip install ziglang && cargo install cargo-zigbuild
# mipsel was built and started; the others are written after it. The name of a router's architecture: opkg print-architecture,
# or apk --print-arch. mipsel_24kc is mipsel here. Its program takes 1.8 MB.
set -eu
cd "$(dirname "$0")/../.."

# The library is built along, which a stable compiler refuses unless it is told that this is known.
export RUSTC_BOOTSTRAP=1
# Where space is dearer than speed.
export CARGO_PROFILE_RELEASE_OPT_LEVEL="${CARGO_PROFILE_RELEASE_OPT_LEVEL:-z}"

[ $# -gt 0 ] || set -- mipsel mips armv7 aarch64
for arch; do
	flags='-C target-feature=+crt-static -C link-self-contained=no'
	case "$arch" in
	# No position-independent programs there; soft floating point is what OpenWrt has.
	mipsel | mips) target="$arch-unknown-linux-musl" flags="$flags -C relocation-model=static" ;;
	armv7) target=armv7-unknown-linux-musleabihf ;;
	aarch64) target=aarch64-unknown-linux-musl ;;
	*) echo "$0: $arch: not one of mipsel, mips, armv7, aarch64" >&2 && exit 2 ;;
	esac
	# shellcheck disable=SC2086 # several words
	cargo zigbuild --release --locked --bin kcptun -Zbuild-std=std,panic_abort --target "$target" \
		--config "target.$target.rustflags=[$(printf '"%s",' $flags)]"
	install -D "${CARGO_TARGET_DIR:-target}/$target/release/kcptun" "target/openwrt/$arch/kcptun"
	ls -l "target/openwrt/$arch/kcptun"
done
