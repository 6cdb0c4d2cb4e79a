#!/bin/sh
# Installs what Volley is built with, and with --test what its tests need besides.
# Asks the system first and leaves it alone when nothing is missing.
# Debian 12 and 13 and Ubuntu 24.04; elsewhere it names what is missing.
set -eu

usage='usage: ./deps.sh [--test] [--lint]
  (none)   compiler, shader compiler, libraries and a CPU Vulkan device
  --test   also what "make test" and "make fuzz" need
  --lint   also what "make lint" and "make format" need'

test=0 lint=0
for option in "$@"; do
    case $option in
    --test) test=1 ;;
    --lint) lint=1 ;;
    -h | --help) echo "$usage" && exit 0 ;;
    *) printf 'deps.sh: unknown option %s\n%s\n' "$option" "$usage" >&2 && exit 2 ;;
    esac
done

have_command() { command -v "$1" >/dev/null 2>&1; }
have_library() { have_command pkg-config && pkg-config --exists "$1"; }
have_file() { [ -e "$1" ]; } # the first match of a pattern
have_fuzzer() {
    have_command clang || return 1
    have_file "$(clang -print-resource-dir)"/lib/*/libclang_rt.fuzzer*.a
}

missing='' # Debian's names
need() {   # need PACKAGE CHECK...: notes the package unless the check succeeds
    package=$1
    shift
    case "$missing " in *" $package "*) return ;; esac
    "$@" || missing="$missing $package"
}

need gcc have_command gcc
need libc6-dev have_file /usr/include/stdio.h
need make have_command make
need pkg-config have_command pkg-config
need glslc have_command glslc
need libvulkan-dev have_library vulkan
need mesa-vulkan-drivers have_file /usr/share/vulkan/icd.d/lvp_icd*.json
need libuv1-dev have_library libuv
need libcjson-dev have_library libcjson
need libpcre2-dev have_library libpcre2-8
need libxxhash-dev have_library libxxhash
need libhttp-parser-dev have_file /usr/include/http_parser.h
need libedit-dev have_library libedit
if [ $test = 1 ]; then
    need libcmocka-dev have_library cmocka
    need vulkan-validationlayers \
        have_file /usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json
    need jq have_command jq
    need curl have_command curl
    need nodejs have_command node
    need clang have_command clang
    need libclang-rt-dev have_fuzzer # its real name carries clang's version
fi
if [ $lint = 1 ]; then
    need clang have_command clang
    need clang-format have_command clang-format
    need cppcheck have_command cppcheck
fi
[ -n "$missing" ] || exit 0

if ! have_command apt-get; then
    echo "deps.sh: this system has no apt-get. Install what these Debian packages hold, then run" \
        "make:$missing" >&2
    exit 1
fi
sudo=''
if [ "$(id -u)" != 0 ]; then
    if ! have_command sudo; then
        echo "deps.sh: installing needs root or sudo. As root: apt-get install$missing" >&2
        exit 1
    fi
    sudo=sudo
fi
apt() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" </dev/null; }

echo "deps.sh: installing$missing"
# A source that does not answer is no reason to stop: the packages may come from another.
apt update || echo 'deps.sh: apt-get update failed; trying with the lists that are there' >&2

case $missing in
*libclang-rt-dev*)
    if have_command clang; then
        version=$(clang -dumpversion)
    else
        version=$(apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9][0-9]*\)$/\1/p')
    fi
    if [ -z "$version" ]; then
        echo 'deps.sh: cannot tell the version of the clang package' >&2
        exit 1
    fi
    missing=$(echo "$missing" | sed "s/libclang-rt-dev/libclang-rt-${version%%.*}-dev/")
    ;;
esac
# shellcheck disable=SC2086 # a list of names
apt install --no-install-recommends $missing
