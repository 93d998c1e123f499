#!/bin/sh
# Builds static programs that are as small as can be with what kcptun does, for OpenWrt's routers and other machines with little
# room, in target/openwrt/ARCHITECTURE/kcptun:
#   examples/openwrt/build.sh [mipsel|mips|armv7|aarch64|x86_64]...     without a name all of them
# Needs Rust with its sources (rustup component add rust-src; Debian: apt install rust-src), for which Rust has no finished
# library for mips, and zig as the C compiler and linker:
#   pip install ziglang && cargo install cargo-zigbuild
# All were built, and carried data under qemu; what each takes: kcptun help deploy. The name of a router's architecture:
# opkg print-architecture, or apk --print-arch. mipsel_24kc is mipsel here.
# An opt-level of z instead of s makes them 6 to 8 % smaller, and takes four times the processor on mipsel.
set -eu
cd "$(dirname "$0")/../.."

# The library is built along, which a stable compiler refuses unless it is told that this is known. It leaves out what names the
# functions in a backtrace, which a stripped program does not show anyway; messages of panics stay.
export RUSTC_BOOTSTRAP=1
library='-Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size'

# A table for debuggers that the linker keeps for mips.
mkdir -p target/openwrt
echo 'SECTIONS { /DISCARD/ : { *(.pdr) } } INSERT AFTER .bss;' >target/openwrt/no-pdr.ld

[ $# -gt 0 ] || set -- mipsel mips armv7 aarch64 x86_64
for arch; do
	# a panic ends the program, and nothing unwinds
	flags='-C target-feature=+crt-static -C link-self-contained=no -C force-unwind-tables=no'
	case "$arch" in
	# No position-independent programs there; soft floating point is what OpenWrt has.
	mipsel | mips) target="$arch-unknown-linux-musl"
		flags="$flags -C relocation-model=static -C link-arg=-Wl,-T,$PWD/target/openwrt/no-pdr.ld" ;;
	armv7) target=armv7-unknown-linux-musleabihf ;;
	aarch64 | x86_64) target="$arch-unknown-linux-musl" ;;
	*) echo "$0: $arch: not one of mipsel, mips, armv7, aarch64, x86_64" >&2 && exit 2 ;;
	esac
	# shellcheck disable=SC2086 # several words
	cargo zigbuild --release --locked --bin kcptun $library --target "$target" \
		--config "target.$target.rustflags=[$(printf '"%s",' $flags)]"
	install -D "${CARGO_TARGET_DIR:-target}/$target/release/kcptun" "target/openwrt/$arch/kcptun"
	ls -l "target/openwrt/$arch/kcptun"
done
