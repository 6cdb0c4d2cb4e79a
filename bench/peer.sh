# Sourced by the scripts that compare Volley with llama.cpp. They set $root, $volley (the program),
# $device, $peer_folder (where llama.cpp is; empty: on PATH) and $peer_options before.
#
# $scratch is a folder that goes away at the end, and so does a server that is still there. $index is
# the number of the device, which llama.cpp gets too. What could not be done is in $misses.
scratch=$(mktemp -d)
misses=$scratch/misses
: >"$misses"
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null
    rm -rf "$scratch"
}
trap finish EXIT

index=$("$volley" devices ${device:+--device "$device"} --json | jq .chosen) || exit 1
[ -z "$peer_folder" ] || peer_folder=$(realpath -e "$peer_folder") || exit 1

# miss WORK WHY: what could not be compared.
miss() {
    printf '%s: %s\n' "$1" "$2" >>"$misses"
}

# as_file NAME: the absolute path of a model, written first where it is a synthetic one.
as_file() {
    case $1 in
    synthetic:*)
        local file=$scratch/${1#synthetic:}.gguf
        "$volley" bench file "${1#synthetic:}" "$file" || return 1
        echo "$file"
        ;;
    *)
        local found
        found=$("$volley" inspect --json "$1") || return 1
        realpath -e "$(jq -r .file <<<"$found")"
        ;;
    esac
}

find_peer() {
    local folder
    for folder in "$peer_folder" "$peer_folder/bin"; do
        [ -n "$peer_folder" ] && [ -x "$folder/$1" ] && { realpath "$folder/$1"; return; }
    done
    [ -n "$peer_folder" ] || command -v "$1"
}

# peer PROGRAM ARGUMENT...: becomes it, run as it has to be; for a subshell.
peer() {
    local program=$1 loader=
    shift
    if [ -n "$peer_folder" ]; then
        loader=$(ls "$peer_folder"/lib/ld-linux* 2>/dev/null | head -n 1)
        [ ! -d "$peer_folder/backends" ] || cd "$peer_folder/backends" || exit 1
    fi
    if [ -n "$loader" ]; then
        local libraries=$peer_folder/lib:${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}
        libraries+=/usr/local/nvidia/lib64:/usr/lib/x86_64-linux-gnu
        GGML_VK_VISIBLE_DEVICES=$index exec "$loader" --library-path "$libraries" "$program" "$@"
    fi
    GGML_VK_VISIBLE_DEVICES=$index exec "$program" "$@"
}

# peer_version PROGRAM: "llama.cpp 7 (abc)".
peer_version() {
    echo "llama.cpp $( (peer "$1" --version) 2>&1 | sed -n 's/^version: //p' | head -n 1)"
}

# why FILE: the line of a log that says most.
why() {
    { grep -iE 'error|fail|not compatible|unsupported|unknown|invalid' "$1" |
        grep -v ggml_backend_load_best || tail -n 1 "$1"; } | tail -n 1 | cut -c 1-200
}

# start_server MODEL ARGUMENT...: $llama_server on $port, once it answers; else 1, and why in
# $scratch/server.log.
start_server() {
    local model=$1 i
    shift
    port=$((20000 + RANDOM % 20000))
    # shellcheck disable=SC2086 # words
    (peer "$llama_server" -m "$model" --host 127.0.0.1 --port $port $peer_options "$@") \
        >"$scratch/server.log" 2>&1 &
    server=$!
    for ((i = 0; i < 1200; i++)); do
        curl -sf "http://127.0.0.1:$port/health" >/dev/null && return
        kill -0 $server 2>/dev/null || break
        sleep 0.5
    done
    stop_server
    return 1
}

stop_server() {
    [ -z "$server" ] || kill "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=
}

# ask PATH JSON: what the server answers.
ask() {
    curl -sf "http://127.0.0.1:$port$1" -H 'Content-Type: application/json' -d @- <<<"$2"
}
