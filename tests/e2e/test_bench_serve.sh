#!/usr/bin/env bash
# volley bench serve: servers that it starts and servers that run, over a small model of random
# weights; what its reports say, not how fast it is.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
export TMPDIR=$scratch

model=dim=64,layers=2,heads=4,kv_heads=2,ff=96,vocab=600,ctx=1024:q8_0

bench() { # OPTION...: into $scratch/json
    check_exit "bench serve $*" 0 "$volley" bench serve --json - "$@"
    printf '%s\n' "$out" >"$scratch/json"
}
says() { # NAME FILTER
    check "$1" jq -e "$2" "$scratch/json"
}

# ---- a server of its own

bench --synthetic $model --clients 1,3 --rate 50 -n 6 --prompt-tokens 10:30 --output-tokens 8 \
    --priorities 1,1,1
says 'a row for each load' '[.rows[].load] == ["1 client", "3 clients", "50 per s"]'
says 'every request is answered' '.rows | all(.requests == 6 and .failed == 0)'
says 'figures' '.rows | all(.tokens_per_s > 0 and .prompt_per_s > 0 and .seconds > 0
    and .request_p50_ms <= .request_p99_ms)'
says 'tokens: 6 answers of 8' '.rows | all(.tokens == 48)'
says 'latencies' '.latency | length == 3 and all(0 < .first_p50_ms and .first_p50_ms <= .first_p95_ms
    and .first_p95_ms <= .first_p99_ms and .first_p99_ms <= .first_max_ms and 0 < .inter_p50_ms
    and .inter_p50_ms <= .inter_p95_ms and .inter_p95_ms <= .inter_p99_ms
    and .inter_p99_ms <= .inter_max_ms and .token_p50_ms <= .token_p99_ms)'
says 'by priority' '[.priorities[].load][0:3] == ["1 client, high", "1 client, normal", "1 client, low"]'
says 'what the server took' '.server | all(.step_ms > 0 and .tokens_per_step > 0
    and .device_percent > 0 and .host_us > 0 and .answer_us > 0)'
says 'where and what' '.device != "" and .model != "" and .prompt_tokens == "10:30"
    and .output_tokens == "8"'
says 'no failures, no table of them' 'has("failures") | not'

bench --synthetic $model --clients 2 -n 4 --prompt-tokens 40 --output-tokens 4 --prefix-tokens 32 \
    --prefix-percent 100 --long-prompt 600 -- --draft-max 0
says 'while long prompts are read' '.long_prompt == 600 and .long_alone_ms > 0
    and (.long[0] | .long_prompts >= 1 and .chunk_ms > 0 and .first_p50_chunks > 0)'
says 'the chunks of a long prompt' '.long_alone_ms / .long[0].chunk_ms | . > 0.9 and (. - round | fabs) < 0.05'
says 'what prompts share is told' '.prefix_tokens == 32 and .prefix_percent == 100'
says 'options behind -- are the server'"'"'s' '.server[0].accepted_percent == null'

check_exit 'a server that does not start' 1 "$volley" bench serve -m "$scratch/none.gguf"
check_match 'why' 'the server ended: .*none.gguf' "$err"
check_exit 'wrong options of the server' 1 "$volley" bench serve --synthetic $model -- --no-such-option
check_match 'wrong options: which' 'unknown option.*no-such-option' "$err"
check_signal 'Ctrl-C ends it' 130 INT 'grep -q /v1/completions "$scratch"/volley-bench-*/log' \
    "$volley" bench serve --synthetic $model --clients 2 -n 1000000 --output-tokens 4
check_equal 'Ctrl-C: a load that is not whole tells nothing' '' "$out"
check_equal 'Ctrl-C: it says why' 'volley: interrupted' "$err"
check_signal 'SIGTERM ends it' 130 TERM 'ls -d "$scratch"/volley-bench-*' \
    "$volley" bench serve --synthetic $model -n 1000000
check_equal 'nothing is left behind' '' "$(ls -d "$scratch"/volley-bench-* 2>/dev/null)"

# ---- a server that runs

echo key >"$scratch/keys"
start_server -m "synthetic:$model" --tcp 0 --parallel 1 --queue 1 --draft-max 0 \
    --api-key-file "$scratch/keys"
address=$(sed -n 's/.*listening on \(127.0.0.1:[0-9]*\)$/\1/p' "$server_log")
echo 'Any text will do: prompts are cut from its tokens.' >"$scratch/text"
bench --socket "$socket" --api-key-file "$scratch/keys" --clients 6 -n 18 --output-tokens 200
says 'what the queue has no room for fails' '.rows[0] | .failed > 0 and .failed < .requests'
says 'failures by kind' '(.failures | map(.load)) == ["6 clients: status 429: queue_full"]
    and .failures[0].requests == .rows[0].failed'
bench --tcp "$address" --api-key-file "$scratch/keys" --clients 2 -n 4 --text "$scratch/text" \
    --prompt-tokens 100 --output-tokens 5 --fields '{"max_tokens":3}' --csv "$scratch/csv"
says 'TCP' '.rows[0].failed == 0'
says 'further fields come before those of the load' \
    '.rows[0].tokens == 4 * 3'
check_match 'CSV' '^bench,table,volley,device,.*,load,requests,failed,' "$(head -n 1 "$scratch/csv")"
check_exit 'no key' 1 "$volley" bench serve --socket "$socket"
check_match 'no key: why' '401' "$err"
check_exit 'every request fails' 1 "$volley" bench serve --socket "$socket" -n 2 --clients 1 \
    --api-key-file "$scratch/keys" --fields '{"temperature":9}'
check_match 'every request fails: why' "all 2 requests failed: status 400: 'temperature': expected" "$err"
stop_server
check_exit 'nobody listens' 1 "$volley" bench serve --socket "$socket"
check_match 'nobody listens: where' "of the server at $socket: " "$err"
check_exit 'nobody listens there either' 1 "$volley" bench serve --tcp "$address"

# ---- wrong usage

for options in '--clients 0' '--clients 1,,2' '--rate 0' '--prompt-tokens 5:4' '--prompt-tokens 1:2:3' \
    '--priorities 0,0,0' '--priorities 1,2' '--prefix-percent 101' '--socket a --tcp 1' \
    '--socket a -m b' '--socket a -- --parallel 3' 'word'; do
    # shellcheck disable=SC2086 # options and values
    check_exit "$options: exit status 2" 2 "$volley" bench serve $options
done
