#!/usr/bin/env bash
# What is installed runs from elsewhere, without the source tree, and goes away again.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1
config=$(basename "$(dirname "$volley")")
if [ "$volley" != "$root/build/$config/volley" ]; then
    skip 'installing' "$volley was not built here"
    exit
fi

# The program is there already, perhaps from a make with other options: it is not made again.
staged=$scratch/staged
in_tree() { make -s -o all config="$config" DESTDIR="$staged" PREFIX=/opt/v "$@"; }
check 'make install' in_tree install
installed=$staged/opt/v/bin/volley
check 'the program is the one that was built' cmp "$volley" "$installed"

# Far from the tree, through a link, and with nothing of the caller's environment but the devices.
mkdir "$scratch/elsewhere"
ln -s "$installed" "$scratch/elsewhere/volley"
away() {
    (cd "$scratch/elsewhere" && exec env -u HOME XDG_CACHE_HOME="$scratch/cache" ./volley "$@")
}
check_exit 'the shipped pair is found beside the program' 0 away run -p Once -n 20 --json
check 'both models of it' jq -e '.model == "stories15M" and .draft == "smol-stories-11M"
    and (.tokens | length) == 20' "$scratch/out"
unit=$staged/opt/v/lib/systemd/system/volley.service
check 'the service runs what is installed' grep -q '^ExecStart=/opt/v/bin/volley serve ' "$unit"
check 'the socket is where the API says' \
    grep -q '^ListenStream=/run/volley/volley.sock$' "$staged/opt/v/lib/systemd/system/volley.socket"
for file in LICENSE NOTICE Apache-2.0.txt README.md api.md library.md; do
    check "$file is installed" test -s "$staged/opt/v/share/doc/volley/$file"
done

# A program of somebody else's, from what is installed alone: the example, in C and the header in C++.
export PKG_CONFIG_PATH=$staged/opt/v/lib/pkgconfig
library() { pkg-config --define-prefix "$@" volley; }
if [ "$config" = release ]; then
    check_equal 'pkg-config knows the version' "$("$volley" --version)" "volley $(library --modversion)"
    # shellcheck disable=SC2046 # options
    check 'the example compiles against the library' \
        ${CC:-cc} -std=c17 -Wall -Wextra -Wpedantic -Werror -o "$scratch/elsewhere/story" \
        "$staged/opt/v/share/doc/volley/examples/story.c" $(library --cflags --libs)
    check_exit 'and writes' 0 "$scratch/elsewhere/story" "$root/models/stories15M-q8_0.gguf"
    check_match 'a text' '^, there was' "$out"
    text=$out
    check_exit 'with a draft, too' 0 "$scratch/elsewhere/story" "$root/models/stories15M-q8_0.gguf" \
        "$root/models/smol-stories-11M-q8_0.gguf"
    check_equal 'the same' "$text" "$out"
    check_exit 'a model that is not there is an error' 1 "$scratch/elsewhere/story" no-such-model
    check_match 'which is told' 'no-such-model' "$err"
    if command -v g++ >/dev/null; then
        echo '#include <volley.h>' >"$scratch/empty.cc"
        # shellcheck disable=SC2046 # options
        check 'the header is one of C++, too' \
            g++ -Wall -Wextra -Werror -fsyntax-only $(library --cflags) "$scratch/empty.cc"
    fi
    check_equal 'nothing but its names is in the library' '' "$(nm -g --defined-only \
        "$staged/opt/v/lib/libvolley.a" 2>/dev/null | awk 'NF == 3 && $3 !~ /^(vly|gpu)_/ { print $3 }')"
else
    skip 'the library' "it is that of $config"
fi

if [ -e /usr/local/share/volley/models ]; then
    skip 'a pair that is not there' 'Volley is installed on this system'
else
    rm "$staged"/opt/v/share/volley/models/stories15M-q8_0.gguf
    check_exit 'a pair that is not there: exit status 1' 1 away run -p Once -n 1
    check_match 'a pair that is not there: where it was looked for' 'share/volley/models' "$err"
fi

check 'make uninstall' in_tree uninstall
check_equal 'nothing is left' '' "$(find "$staged" ! -type d)"
