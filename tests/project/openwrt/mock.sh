#!/bin/sh
# Runs OpenWrt's init script elsewhere: mock.sh SCRIPT CONFIG PROGRAM DIRECTORY. What OpenWrt's shell libraries do stands
# here as far as the script needs it: its UCI configuration is read, JSON is written, and what procd is told is printed.
# shellcheck disable=SC1090,SC2034,SC2086,SC3043 # the script is given, and OpenWrt's shell has local

# Options become variables, as OpenWrt's functions.sh has it.
config_load() {
	local word name value section=''
	SECTIONS=''
	while read -r word name value; do
		value="${value#\'}"
		value="${value%\'}"
		case "$word" in
		config)
			section="$value"
			SECTIONS="$SECTIONS $name/$value"
			;;
		option)
			name="${name#\'}"
			eval "OPTION_${section}_${name%\'}=\$value"
			;;
		esac
	done < "$CONFIG"
}

config_foreach() {
	local entry
	for entry in $SECTIONS; do
		[ "${entry%%/*}" != "$2" ] || "$1" "${entry#*/}"
	done
}

config_get() {
	eval "$1=\${OPTION_$2_$3:-\$4}"
}

config_get_bool() {
	local truth
	config_get truth "$2" "$3" "$4"
	case "$truth" in
	1 | on | true | yes | enabled) eval "$1=1" ;;
	0 | off | false | no | disabled) eval "$1=0" ;;
	*) eval "$1=\$4" ;;
	esac
}

json_init() {
	JSON=''
	COMMA=''
}
json_add() {
	JSON="$JSON$COMMA\"$1\": $2"
	COMMA=", "
}
json_add_string() { json_add "$1" "\"$(printf %s "$2" | sed 's/[\\"]/\\&/g')\""; }
json_add_int() { json_add "$1" "$2"; }
json_add_double() { json_add "$1" "$2"; }
json_add_object() {
	json_add "$1" "{"
	COMMA=''
}
json_close_object() {
	JSON="$JSON}"
	COMMA=", "
}
json_dump() { printf '{%s}\n' "$JSON"; }

procd_open_instance() { printf 'open %s\n' "$*"; }
procd_set_param() { printf 'param %s\n' "$*"; }
procd_close_instance() { echo close; }
procd_add_reload_trigger() { printf 'trigger %s\n' "$*"; }

CONFIG="$2"
. "$1"
PROG="$3"
RUN_DIR="$4"
start_service
service_triggers
