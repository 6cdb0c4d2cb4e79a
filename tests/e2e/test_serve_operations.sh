#!/usr/bin/env bash
# volley serve: what operators do to it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
cd "$root" || exit 1

# Options of servers whose streams end when the test wants them to.
patient=(-m "$endless" --parallel 3 --max-buffered 4096 --write-timeout 0 --drain-timeout "$patience")

ask_stream() { # FIELDS
    curl -sN --max-time $patience --unix-socket "$socket" http://volley/v1/completions \
        -d "{\"prompt\":\"Once\",\"seed\":1,\"ignore_eos\":true,\"stream\":true$1}"
}
# A stream into $scratch/stream, by the process $reader, that does not come to its end.
begin_stream() {
    : >"$scratch/stream" # or the one before could be taken for it
    ask_stream '' >"$scratch/stream" &
    reader=$!
    wait_for grep -q '^data: ' "$scratch/stream"
}
# One that does, but not before `go_on`: until then nobody takes more than its first line, and it has
# more than there is room for on the way.
begin_held_stream() {
    rm -f "$scratch/go_on"
    : >"$scratch/stream"
    ask_stream ',"max_tokens":2000,"logprobs":20' | {
        IFS= read -r line && printf '%s\n' "$line"
        wait_for test -e "$scratch/go_on"
        cat
    } >"$scratch/stream" &
    reader=$!
    wait_for grep -q '^data: ' "$scratch/stream"
}
go_on() { touch "$scratch/go_on"; }
ended_well() {
    wait_for grep -q '^data: \[DONE\]' "$scratch/stream"
}

# ---- sockets ----

refused() { # NAME PATTERN OPTION...
    local name=$1 pattern=$2
    shift 2
    check_exit "$name: exit status 1" 1 timeout $patience "$volley" serve "$@"
    check_match "$name: why" "$pattern" "$err"
}
long=$scratch/$(printf 'x%.0s' {1..120})
refused 'a path too long' '1 to 107' --socket "$long"
echo text >"$scratch/file"
refused 'a file in the way' 'expected a socket or nothing' --socket "$scratch/file"
check_equal 'the file is left alone' text "$(cat "$scratch/file")"
refused 'no such folder' 'none/v.sock|scratch|No such file' --socket "$scratch/none/v.sock"
refused 'TCP beyond loopback without keys' 'other machines' --tcp 0.0.0.0:0
refused 'an address that is none' 'expected PORT' --tcp localhost:http
refused 'an address of too many digits' 'expected PORT' --tcp "$(printf '1%.0s' {1..80}):0"
refused 'caches of a few bytes' 'may take 4\.9 KiB; it needs at least [0-9.]+ KiB' --socket "$socket" --kv-memory 5000
refused 'a file of keys that is not there' 'No such file' --socket "$socket" --api-key-file "$scratch/none"
: >"$scratch/keys"
refused 'a file without keys' 'expected a key' --socket "$socket" --api-key-file "$scratch/keys"
refused 'no such model' 'none.gguf' --socket "$socket" -m "$scratch/none.gguf"
check 'nothing is left of the socket' test ! -e "$socket"
check_exit 'no place to listen: exit status 2' 2 "$volley" serve
for option in '--parallel 0' '--parallel 65' '--socket-mode 8' '--kv-memory 5Q' '--max-body 1' \
    '--log xml' '--request-timeout -1'; do
    # shellcheck disable=SC2086 # an option and its value
    check_exit "$option: exit status 2" 2 "$volley" serve --socket "$socket" $option
done

umask 077
start_server "${patient[@]}" --socket-mode 0666 --log json
check_equal 'the mode is as asked for' 666 "$(stat -c %a "$socket")"
refused 'a server is there already' 'another server is listening' --socket "$socket"
begin_held_stream
refused 'a server is there already, which writes' 'another server is listening' --socket "$socket"
go_on
check 'and goes on' ended_well
request /v1/completions '{"prompt":"a","max_tokens":1,"ignore_eos":true}'
check_equal 'and answers' 200 "$code"
check 'every line of the log tells when it was written' sh -c \
    'grep "^{" "$1" | jq -es "length > 3 and all(.time | test(\"^20..-.*[.][0-9]{3}Z\"))" >/dev/null' sh "$server_log"
check 'lines of the log are JSON' sh -c 'grep "^{" "$1" | jq -es "
    map(select(.event == \"request\" and .path == \"/v1/completions\"))
    | length == 2 and all(.status == 200 and .outcome == \"length\" and .uid >= 0 and .pid > 0
        and .prompt_tokens > 0 and .completion_tokens > 0 and .acceptance_rate >= 0)" >/dev/null' \
    sh "$server_log"

# ---- killed and started again ----

begin_stream
kill -9 "$server"
wait "$server" 2>/dev/null
wait "$reader"
check 'a killed server leaves its socket' test -S "$socket"
check_equal 'and a stream without an end' 0 "$(grep -c DONE "$scratch/stream")"
start_server "${patient[@]}"
request /v1/completions '{"prompt":"a","max_tokens":1}'
check_equal 'which the next server replaces' 200 "$code"

# ---- draining ----

begin_held_stream
kill -TERM "$server"
check 'SIGTERM: the socket is gone before the stream has come to its end' wait_for test ! -e "$socket"
go_on
check 'SIGTERM: the stream comes to its end' ended_well
status=0
wait "$server" || status=$?
server=''
check_equal 'SIGTERM: exit status 0' 0 $status

start_server "${patient[@]}"
begin_held_stream
kill -TERM "$server"
wait_for test ! -e "$socket"
first=$server
start_loading "${patient[@]}" # a next one, while the first one drains
check 'a next server takes the path while the first one ends' wait_for is_ready
go_on
check 'whose stream comes to its end' ended_well
wait "$first"
check 'and which leaves the path alone' test -S "$socket"
begin_stream
kill -TERM "$server"
wait_for test ! -e "$socket"
kill -INT "$server"
sleep 0.01
kill -TERM "$server" 2>/dev/null # one too many changes nothing
status=0
wait "$server" || status=$?
server=''
check_equal 'a second signal ends at once: exit status 0' 0 $status
wait "$reader"
check_equal 'a second signal: no stream passes for complete' 0 "$(grep -c DONE "$scratch/stream")"

start_server "${patient[@]}" --drain-timeout 0.3
begin_stream
stop_server
check_equal 'the deadline has passed: exit status 0' 0 $status
wait "$reader"
check_match 'the deadline has passed: the stream is told' '"code":"shutdown"' "$(cat "$scratch/stream")"

# A body that takes long, beside the loop (test_serve_many.c has that others are answered meanwhile).
start_server
{
    printf '{"content":"'
    head -c 4000000 /dev/zero | tr '\0' a
    printf '"}'
} >"$scratch/long"
ask_long() {
    curl -s --max-time $patience --unix-socket "$socket" -o "$scratch/tokens" -w '%{http_code}' \
        http://volley/tokenize --data-binary "@$scratch/long" >"$scratch/code" &
    reader=$!
}
ask_long
sleep 0.1
stop_server
wait "$reader"
check_equal 'SIGTERM while a long body is read: exit status 0' 0 $status
check_match 'SIGTERM while a long body is read: it is answered, or was not taken' '^(200|503|000)$' \
    "$(cat "$scratch/code")"
start_server
ask_long
sleep 0.1
kill -KILL "$reader"
wait "$reader" 2>/dev/null
request /v1/completions '{"prompt":"a","max_tokens":1}'
check_equal 'whoever sent one may go away' 200 "$code"
check 'and leaves nothing' wait_for eval '[ "$(metric connections)" = 1 ]'
stop_server
check_equal 'nor does that keep the server from ending: exit status 0' 0 $status

# ---- loading ----

start_loading -m synthetic:tinyllama:q8_0
wait_for test -S "$socket"
stop_server
check_equal 'SIGTERM while weights are loaded: exit status 0' 0 $status

# Loading that does not come to its end: the driver compiles and compiles.
hold=$(dirname "$volley")/tests/preload/hold_compiling.so
check 'what holds the driver is built (make e2e-bin)' test -e "$hold"
touch "$scratch/held"
ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0 HOLD_COMPILING=$scratch/held LD_PRELOAD=$hold \
    start_loading
wait_for eval 'request /health && jq -e ".progress >= 0.8" "$scratch/body"'
unanswered=0
for _ in {1..20}; do
    request /health
    [ "$code" = 503 ] || unanswered=$((unanswered + 1))
done
check_equal 'every question is answered while the driver compiles' 0 $unanswered
check 'while loading: 503, how far it is, an error as the API has them' \
    jq -e '.status == "loading model" and .progress >= 0.8 and .progress < 1
    and .error.code == 503 and .error.type == "unavailable_error"' "$scratch/body"
request /v1/models
check_equal 'while loading: other requests' 503 "$code"
kill -TERM "$server"
check 'SIGTERM while loading: the socket is gone' wait_for test ! -e "$socket"
rm "$scratch/held"
status=0
wait "$server" || status=$?
server=''
check_equal 'SIGTERM while loading: exit status 0' 0 $status
check_equal 'SIGTERM while loading: it was not waited for' '' "$(grep ready "$server_log")"

# ---- TCP and keys ----

printf '# whose\nfirst-key\n\n  second-key \n' >"$scratch/keys"
start_server --tcp 0 --api-key-file "$scratch/keys" --max-prompt 8 --chat-template chatml
address=$(sed -n 's/.*listening on \(127.0.0.1:[0-9]*\)$/\1/p' "$server_log")
check_equal 'TCP: ready' '{"status":"ok"}' "$(curl -s "http://$address/health")"
request /v1/models
check_equal 'no key' '401 invalid_api_key' "$code $(jq -r .error.code "$scratch/body")"
for key in second-key first-key '  first-key '; do
    request /v1/models '' -H "Authorization: Bearer $key"
    check_equal "$key" 200 "$code"
done
for key in first-ke first-keys '' '# whose'; do
    request /v1/models '' -H "Authorization: Bearer $key"
    check_equal "'$key' is no key" 401 "$code"
done
check_equal 'TCP: a key' 200 "$(curl -s -o "$scratch/body" -w '%{http_code}' \
    -H 'Authorization: Bearer first-key' "http://$address/v1/models")"
limited() { # STATUS PARAM PATH JSON
    request "$3" "$4" -H 'Authorization: Bearer first-key'
    check_equal "--max-prompt 8: $4" "$1 $2" "$code $(jq -r '.error.param // "none"' "$scratch/body")"
}
limited 200 none /v1/completions '{"prompt":"Once upon a time","max_tokens":1}'
limited 400 prompt /v1/completions '{"prompt":"Once upon a time there was a little girl","max_tokens":1}'
limited 200 none /v1/completions '{"prompt":[1,2,3,4,5,6,7,8],"max_tokens":1}'
limited 400 prompt /v1/completions '{"prompt":[1,2,3,4,5,6,7,8,9],"max_tokens":1}'
limited 400 messages /v1/chat/completions '{"messages":[{"role":"user","content":"Who are you?"}]}'
check_equal '--max-prompt: how it is called' context_length_exceeded "$(jq -r .error.code "$scratch/body")"
stop_server
check_match 'TCP: the address is in the log' 'address=127.0.0.1 method=GET path=/v1/models status=200' \
    "$(cat "$server_log")"

# ---- the documents ----

"$volley" serve --help >"$scratch/help"
check_equal 'serve --help: no line passes 80 columns' '' "$(awk 'length > 80' "$scratch/help")"
for option in $(grep -oE -- '--[a-z][a-z-]*' docs/api.md | sort -u); do
    case $option in --unix-socket) continue ;; esac
    check "docs/api.md's $option is in 'serve --help'" grep -q -- "$option" "$scratch/help"
done
for name in $(sed -n '/^## Metrics/,$p' docs/api.md | grep -oE '`[a-z_]+(\{|`)' | tr -d '`{' | sort -u); do
    case $name in *_total | *_seconds | *_bytes | num_* | kv_pages | connections)
        check "docs/api.md's $name is a metric" grep -q "\"$name\"" src/serve/metrics.c
    esac
done
