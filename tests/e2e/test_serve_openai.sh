#!/usr/bin/env bash
# volley serve and the client that OpenAI publishes (tests/data/openai), over the Unix socket.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
cd "$root" || exit 1

if ! node --version >/dev/null 2>&1; then
    skip "OpenAI's client" 'there is no Node.js'
    exit
fi
start_server --chat-template chatml
node tests/e2e/openai_client.js "$socket" >"$scratch/checks" 2>"$scratch/err"
while read -r result name; do
    if [ "$result" = pass ]; then pass "$name"; else fail "$name" "$(cat "$scratch/err")"; fi
done <"$scratch/checks"
check_equal 'all of them came to an end' 8 "$(wc -l <"$scratch/checks")"
check 'nothing is held afterwards' wait_for eval '[ "$(metric num_requests_running)" = 0 ]'
stop_server
