#!/usr/bin/env bash
# volley serve on a device that is lost: all clients are told, /health says so, and the server ends.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
cd "$root" || exit 1

lost=$scratch/lost
fault=$(dirname "$volley")/tests/preload/lose_device.so
check 'the fault is built (make e2e-bin)' test -e "$fault"
[ -e "$fault" ] || exit 0 # nothing below would come to an end
start_losable() {
    LOSE_DEVICE=$lost LD_PRELOAD=$fault start_server "$@"
}
# Waits for the server; the check is called as given.
expect_end() {
    local status=0
    wait "$server" || status=$?
    server=''
    check_equal "$1" 1 $status
}
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0

# Two run, one waits, and one that began before them is paused: its reader takes nothing.
start_losable -m "$endless" --parallel 2 --write-timeout 0 --drain-timeout $patience
ask() { # FILE JSON
    curl -sN --max-time $patience --unix-socket "$socket" -w '%{http_code}' -o "$scratch/$1" \
        http://volley/v1/completions -d "{\"prompt\":\"Once\",\"ignore_eos\":true$2}" >"$scratch/$1.code" &
    readers+=($!)
}
readers=()
ask paused ',"logprobs":20,"stream":true'
wait_for grep -q '^data: ' "$scratch/paused"
kill -STOP "${readers[0]}"
check 'a reader that takes nothing' wait_for eval '[ "$(metric num_requests_paused)" = 1 ]'
ask stream ',"stream":true'
wait_for grep -q '^data: ' "$scratch/stream"
ask whole ''
wait_for eval '[ "$(metric num_requests_running)" = 3 ]'
ask waiting ',"stream":true'
check 'one waits' wait_for eval '[ "$(metric num_requests_waiting)" = 1 ]'
touch "$lost"
wait "${readers[1]}" "${readers[2]}" "${readers[3]}"
check_match 'the stream is told' '^data: \{"error":\{"message":".* was lost .*","type":"server_error","param":null,"code":"device_lost"\}\}$' \
    "$(grep '^data: ' "$scratch/stream" | tail -n 1)"
for one in whole waiting; do
    check_equal "so is the one that is $one" '500 device_lost' \
        "$(cat "$scratch/$one.code") $(jq -r .error.code "$scratch/$one")"
done
request /health
check '/health says so' jq -e --arg code "$code" '$code == "503" and .status == "failed"
    and (.error.message | test("was lost"))' "$scratch/body"
request /v1/completions '{"prompt":"a"}'
check_match 'what comes now is told too' '503 .*was lost' "$code $out"
kill -CONT "${readers[0]}"
wait "${readers[0]}"
check_match 'the slow reader is told behind what it had not read' 'device_lost' \
    "$(grep '^data: ' "$scratch/paused" | tail -n 1)"
expect_end 'then the server ends: exit status 1'
check_match 'and says why' 'error: .* was lost' "$(cat "$server_log")"
check 'the socket is gone' test ! -e "$socket"
rm "$lost"
start_losable
request /v1/completions '{"prompt":"Once","max_tokens":2}'
check_equal 'the next server works' 200 "$code"
touch "$lost"
request /v1/completions '{"prompt":"Once","max_tokens":2}'
check_equal 'a server that did nothing finds out with the next request' '500 device_lost' \
    "$code $(jq -r .error.code "$scratch/body")"
expect_end 'and ends'
