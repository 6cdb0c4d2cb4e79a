#!/usr/bin/env bash
# volley serve: the API as clients see it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/serve_lib.sh"
cd "$root" || exit 1

# ---- while the models are loaded, and after ----

start_loading
check 'listens before the models are loaded' wait_for test -S "$socket"
check 'is ready' wait_for is_ready
request /health
check_equal '/health' '200 {"status":"ok"}' "$code $out"
check_equal 'the socket is for its user only' 600 "$(stat -c %a "$socket")"

# ---- streams, byte for byte ----

# What differs from run to run and from device to device, out of the way.
plain() {
    sed -E 's/"id":"(chatcmpl|cmpl)-[0-9a-f]+"/"id":"\1-ID"/; s/"created":[0-9]+/"created":0/
        s/("(prompt|predicted)_(ms|per_token_ms|per_second)":)[0-9.]+/\10/g
        s/-?[0-9]+\.[0-9]{6}/-1/g' "$scratch/body"
}
golden() { # NAME: the answer, but for what differs, is tests/data/serve/NAME
    if [ -n "${UPDATE_GOLDEN:-}" ]; then plain >"tests/data/serve/$1"; fi
    plain >"$scratch/plain"
    check "the bytes of $1" diff "tests/data/serve/$1" "$scratch/plain"
}
# The text of all events.
streamed() {
    sed -n 's/^data: {/{/p' "$scratch/body" |
        jq -j '.choices[0] | .text // .delta.content // empty'
}
# Without drafts a chunk is a token.
start='"prompt":"Once upon a time","temperature":0' plainly='"draft_max":0'
request /v1/completions "{$start,$plainly,\"max_tokens\":16,\"stream\":true}"
golden completion.sse
text=$(streamed)
request /v1/completions "{$start,$plainly,\"max_tokens\":16}"
golden completion.json
request /v1/completions "{$start,$plainly,\"max_tokens\":3,\"stream\":true,\"stream_options\":{\"include_usage\":true}}"
golden completion_usage.sse
request /v1/completions "{$start,$plainly,\"max_tokens\":3,\"stream\":true,\"logprobs\":2}"
golden completion_logprobs.sse
request /v1/completions "{$start,\"max_tokens\":16,\"stream\":true,\"draft_method\":\"model\",\"draft_max\":4}"
check_equal 'with drafts the stream has the same text' "$text" "$(streamed)"
check 'and tells how they were accepted' jq -e '.timings as $t | .metrics.speculative_decoding
    | .num_draft_tokens == $t.draft_n and .num_accepted_draft_tokens == $t.draft_n_accepted
    and (.acceptance_histogram | add) == .num_spec_steps
    and ([.acceptance_histogram | to_entries[] | .key * .value] | add) == .num_accepted_draft_tokens
    and .mean_acceptance_length >= 1 and .num_spec_tokens == 4' \
    <(grep '"timings"' "$scratch/body" | sed 's/^data: //')
check_equal 'the stream ends as OpenAI has it' 'data: [DONE]' "$(grep . "$scratch/body" | tail -n 1)"

# ---- the same text as volley run ----

same_as_run() { # NAME JSON OPTION...
    local name=$1 json=$2
    shift 2
    "$volley" run --json -p 'The dog was happy because' "$@" 2>/dev/null | jq -j .text >"$scratch/run"
    request /v1/completions "{\"prompt\":\"The dog was happy because\",$json}"
    jq -j '.choices[0].text' "$scratch/body" >"$scratch/served"
    check "the same text as volley run: $name" cmp "$scratch/run" "$scratch/served"
}
same_as_run 'sampled' '"max_tokens":40,"seed":7' -n 40 --seed 7 --temp 1 --top-p 1
same_as_run 'filtered' '"max_tokens":40,"seed":8,"top_p":0.9,"top_k":20,"min_p":0.02,"temperature":0.8' \
    -n 40 --seed 8 --temp 0.8 --top-p 0.9 --top-k 20 --min-p 0.02
same_as_run 'penalties and bias' \
    '"max_tokens":30,"seed":9,"presence_penalty":1,"frequency_penalty":0.5,"logit_bias":{"13":-100}' \
    -n 30 --seed 9 --temp 1 --top-p 1 --presence-penalty 1 --frequency-penalty 0.5 \
    --repeat-last-n -1 --logit-bias 13:-100
same_as_run 'n-grams' '"max_tokens":40,"seed":7,"draft_method":"ngram","draft_max":6' \
    -n 40 --seed 7 --temp 1 --top-p 1
same_as_run 'to the end of the context' '"seed":10' --seed 10 --temp 1 --top-p 1
check 'the end of the context: length' jq -e '.choices[0].finish_reason == "length"
    and .usage.total_tokens == 256
    and .usage.total_tokens == .usage.prompt_tokens + .usage.completion_tokens' "$scratch/body"

# ---- fields ----

request /v1/completions '{"prompt":[1,9038,2501,263,931],"max_tokens":8,"temperature":0}'
ids=$(jq -r '.choices[0].text' "$scratch/body")
request /v1/completions '{"prompt":["Once upon a time"],"max_tokens":8,"temperature":0,"no such field":{"a":[1]}}'
check_equal 'a prompt of tokens; an array of one; unknown fields' "$ids" "$(jq -r '.choices[0].text' "$scratch/body")"
request /v1/completions "{\"prompt\":\"Once upon a time\",\"temperature\":0,\"stop\":[\"zebra\",\" girl named\"]}"
check 'stop strings end the text before them' jq -e '.choices[0].text == ", there was a little"
    and .choices[0].finish_reason == "stop"' "$scratch/body"
request /v1/completions "{$start,\"stream\":true,\"stop\":\"named Lily\"}"
check_equal 'so they do in streams' ', there was a little girl ' \
    "$(streamed)"
for name in max_completion_tokens max_tokens; do
    request /v1/completions "{\"prompt\":\"Once upon a time\",\"$name\":0}"
    check "$name 0: no tokens at all" jq -e '.choices[0].text == "" and .usage.completion_tokens == 0
        and .choices[0].finish_reason == "length"' "$scratch/body"
done
request /v1/completions "{$start,\"max_tokens\":16,\"logprobs\":3}"
check 'log-probabilities: of each token, the best first' jq -e '.choices[0].logprobs
    | (.tokens | length) == 16 and (.token_logprobs | all(. <= 0)) and (.text_offset[0] == 0)
    and (.top_logprobs | all(length == 3)) and (.tokens | join("")) != ""' "$scratch/body"
request /v1/completions '{"prompt":"","temperature":0,"max_tokens":6,"logprobs":0,"stop":[" time"]}'
check 'and where it stands in the text, before which a space may be dropped' jq -e '.choices[0]
    | .text as $t | .logprobs | [.tokens, .text_offset] | transpose
    | .[0] == [" Once", 0] and all(.[1:][]; . as [$token, $at] | $t[$at:] | startswith($token))' \
    <(jq -c '.choices[0].logprobs |= with_entries(.value |= .[:3])' "$scratch/body")
request /v1/completions '{"prompt":"Once\u0000upon \ud83d\ude00","max_tokens":4,"temperature":0,"ignore_eos":true}'
check_equal 'any characters in a prompt' 200 "$code"

# ---- prompts that begin alike ----

cached() { # how much of the prompt was there already
    jq '.usage.prompt_tokens_details.cached_tokens' "$scratch/body"
}
words=$(printf 'The cat and the dog played in the park all day. %.0s' {1..8})
tale="\"prompt\":\"$words\",\"max_tokens\":12,\"seed\":3"
request /v1/completions "{$tale}"
text=$(jq -r '.choices[0].text' "$scratch/body")
check_equal 'a new prompt' 0 "$(cached)"
hits=$(metric prefix_cache_hit_tokens_total)
request /v1/completions "{$tale}"
check 'the same again: its whole pages are reused' jq -e '.usage as $u
    | ($u.prompt_tokens_details.cached_tokens | . >= 64 and . % 32 == 0 and . < $u.prompt_tokens)
    and .timings.cache_n == $u.prompt_tokens_details.cached_tokens
    and .timings.prompt_n == $u.prompt_tokens - .timings.cache_n' "$scratch/body"
check_equal 'with the same text' "$text" "$(jq -r '.choices[0].text' "$scratch/body")"
check_equal 'which the metrics tell' "$((hits + $(cached)))" "$(metric prefix_cache_hit_tokens_total)"
request /v1/completions "{$tale,\"cache_prompt\":false}"
check_equal 'without reuse: all is computed, to the same text' "0 $text" \
    "$(cached) $(jq -r '.choices[0].text' "$scratch/body")"
request /v1/completions "{\"prompt\":\"$words They were happy.\",\"max_tokens\":2}"
check 'another prompt that begins so' test "$(cached)" -ge 64

wrong() { # FIELD JSON [PATH]
    request "${3:-/v1/completions}" "$2"
    check_equal "$2: 400 and '$1'" "400 $1 invalid_request_error" \
        "$code $(jq -r '.error | "\(.param) \(.type)"' "$scratch/body")"
}
for value in '"hot"' -0.1 2.1 true '[1]' 1e999; do wrong temperature "{\"prompt\":\"a\",\"temperature\":$value}"; done
for value in -1 1.5 '"3"' 4294967295; do wrong max_tokens "{\"prompt\":\"a\",\"max_tokens\":$value}"; done
for value in 1.1 -0.1; do wrong top_p "{\"prompt\":\"a\",\"top_p\":$value}"; done
wrong top_k '{"prompt":"a","top_k":-2}'
wrong repeat_last_n '{"prompt":"a","repeat_last_n":-2}'
wrong min_p '{"prompt":"a","min_p":2}'
wrong n '{"prompt":"a","n":2}'
wrong seed '{"prompt":"a","seed":1.5}'
wrong seed '{"prompt":"a","seed":9007199254740993}'
wrong stop '{"prompt":"a","stop":["1","2","3","4","5","6","7","8","9"]}'
wrong stop '{"prompt":"a","stop":[""]}'
wrong stop '{"prompt":"a","stop":5}'
wrong stream '{"prompt":"a","stream":"yes"}'
wrong stream_options '{"prompt":"a","stream_options":{"include_usage":true}}'
wrong stream_options.include_usage '{"prompt":"a","stream":true,"stream_options":{"include_usage":1}}'
wrong stream_options '{"prompt":"a","stream":true,"stream_options":true}'
wrong model '{"prompt":"a","model":5}'
wrong logprobs '{"prompt":"a","logprobs":21}'
wrong logprobs '{"prompt":"a","logprobs":true}'
wrong logprobs '{"messages":[{"role":"user","content":"a"}],"logprobs":1}' /v1/chat/completions
wrong logit_bias '{"prompt":"a","logit_bias":{"x":1}}'
wrong logit_bias '{"prompt":"a","logit_bias":{"32000":1}}'
wrong logit_bias '{"prompt":"a","logit_bias":{"5":101}}'
wrong presence_penalty '{"prompt":"a","presence_penalty":3}'
wrong frequency_penalty '{"prompt":"a","frequency_penalty":"0"}'
wrong ignore_eos '{"prompt":"a","ignore_eos":1}'
wrong draft_max '{"prompt":"a","draft_max":17}'
wrong draft_method '{"prompt":"a","draft_method":"magic"}'
wrong priority '{"prompt":"a","priority":"urgent"}'
wrong prompt '{"max_tokens":5}'
wrong prompt '{"prompt":["a","b"]}'
wrong prompt '{"prompt":[1,32000]}'
wrong prompt '{"prompt":{}}'
wrong null '{"prompt":'
wrong null '[]'
wrong null '{"prompt":"a"}{}'
wrong messages '{"prompt":"a"}' /v1/chat/completions
wrong 'messages[0].role' '{"messages":[{"content":"a"}]}' /v1/chat/completions
wrong 'messages[0].content' '{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}' /v1/chat/completions
check_equal 'an image: what it is' \
    "'messages[0].content': expected parts of the type \"text\", got \"image_url\"" \
    "$(jq -r .error.message "$scratch/body")"
wrong top_logprobs '{"messages":[{"role":"user","content":"a"}],"top_logprobs":2}' /v1/chat/completions
wrong max_tokens '{"messages":[{"role":"user","content":"a"}],"max_tokens":0}' /v1/chat/completions
wrong messages '{"messages":[{"role":"user","content":"a"}]}' /v1/chat/completions
check_match 'a model without a chat template: how to give one' 'chat-template' "$out"
request /v1/completions "{\"prompt\":\"$(printf 'word %.0s' {1..300})\"}"
check_equal 'a prompt longer than the context' '400 context_length_exceeded' \
    "$code $(jq -r .error.code "$scratch/body")"
check_match 'a prompt longer than the context: both numbers' '30[0-9] tokens.*256' "$out"
{ printf '{"prompt":"'; head -c 3000000 /dev/zero | tr '\0' a; printf '"}'; } >"$scratch/long"
request /v1/completions "@$scratch/long"
check_match 'one far longer: its bytes' '400 .*3000000 bytes.*256 tokens' "$code $out"

# ---- the other endpoints ----

request /v1/models
check '/v1/models' jq -e '.object == "list" and .data[0].id == "stories15M"' "$scratch/body"
request /v1/models/stories15M
check '/v1/models/NAME' jq -e '.id == "stories15M" and .object == "model"' "$scratch/body"
request /v1/models/stories%315M
check_equal 'a name with escaped characters' 200 "$code"
request /v1/models/gpt
check_equal 'a model that is not there' '404 model_not_found' "$code $(jq -r .error.code "$scratch/body")"
request /props
check '/props' jq -e '.n_ctx == 256 and .draft == "smol-stories-11M" and .total_slots == 32' "$scratch/body"
request /tokenize '{"content":"Once upon a time","add_special":true}'
check_equal '/tokenize' '{"tokens":[1,9038,2501,263,931]}' "$out"
request /tokenize '{"content":"</s>","parse_special":false}'
check '/tokenize: control tokens as text' jq -e '.tokens | index(2) == null' "$scratch/body"
request /tokenize '{"content":"Once","with_pieces":true}'
check_equal '/tokenize: pieces' '{"tokens":[{"id":9038,"piece":" Once"}]}' "$out"
request /detokenize '{"tokens":[1,9038,2501,263,931]}'
check_equal '/detokenize' '{"content":"Once upon a time"}' "$out"
request /nothing
check_equal 'a path that is none' '404 unknown_url' "$code $(jq -r .error.code "$scratch/body")"
request /v1/completions '' -X DELETE -i
check_match 'a method that is none' '405 .*Allow: POST, OPTIONS' "$(tr -d '\r' <"$scratch/body" | paste -sd' ')"
request /v1/models '' -X OPTIONS -i
check_match 'OPTIONS: the methods' '200 .*Allow: GET, HEAD, OPTIONS' "$(tr -d '\r' <"$scratch/body" | paste -sd' ')"
length=$(curl -s --unix-socket "$socket" http://volley/v1/models | wc -c)
request /v1/models '' -I
check_match 'HEAD: as GET, without the body' \
    "200 .*Date: [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} 20[0-9: ]+ GMT .*Content-Length: $length *$" \
    "$(tr -d '\r' <"$scratch/body" | paste -sd' ')"

# ---- metrics ----

check 'the four counters of speculation' test -n "$(metric spec_decode_num_drafts_total)" -a \
    -n "$(metric spec_decode_num_draft_tokens_total)" -a \
    -n "$(metric spec_decode_num_accepted_tokens_total)" -a \
    -n "$(metric 'spec_decode_num_accepted_tokens_per_pos_total{position="0"}')"
lost=0
for reason in pick unmapped split front end; do
    lost=$((lost + $(metric "draft_tokens_lost_total{reason=\"$reason\"}")))
done
check_equal 'drafted tokens are accepted or lost' "$(metric spec_decode_num_draft_tokens_total)" \
    $(($(metric spec_decode_num_accepted_tokens_total) + lost))
check_equal 'nothing runs any more' '0 0 0' \
    "$(metric num_requests_running) $(metric num_requests_waiting) $(metric num_requests_paused)"
check_equal 'no page is held any more' '0 0' \
    "$(metric 'kv_pages{model="target",state="used"}') $(metric 'kv_pages{model="draft",state="used"}')"
check 'one connection: this one' wait_for eval '[ "$(metric connections)" = 1 ]'
curl -s --unix-socket "$socket" http://volley/metrics >"$scratch/metrics"
check_equal 'every line is Prometheus text' '' "$(grep -vE '^(# (HELP|TYPE) volley:[a-z_0-9]+ .+|volley:[a-z_0-9]+(\{[^}]*\})? [-+.e0-9]+)$' "$scratch/metrics")"

# ---- the end ----

stop_server
check_equal 'SIGTERM: exit status 0' 0 $status
check 'SIGTERM: the socket is gone' test ! -e "$socket"
check_match 'the log has a line for a request' \
    'event=request id=[0-9a-f]+ uid=[0-9]+ pid=[0-9]+ method=POST path=/v1/completions status=200 outcome=length .*prompt_tokens=5 .*acceptance_rate=0\.' \
    "$(cat "$server_log")"
check_equal 'nothing on standard output' '' "$(cat "$scratch/stdout")"

# ---- conversations ----

model=(-m tests/models/smol-stories-11M-f16.gguf -d none)
start_server "${model[@]}" --chat-template chatml
messages='"messages":[{"role":"developer","content":"Tell a story."},
    {"role":"user","content":[{"type":"text","text":"Who "},{"type":"text","text":"are you?"}]}]'
request /apply-template "{$messages}"
check_equal '/apply-template' '<|im_start|>system
Tell a story.<|im_end|>
<|im_start|>user
Who are you?<|im_end|>
<|im_start|>assistant' "$(jq -r .prompt "$scratch/body")"
request /v1/chat/completions "{$messages,\"max_tokens\":4,\"temperature\":0,\"stream\":true,\"stream_options\":{\"include_usage\":true}}"
golden chat.sse
text=$(streamed)
request /v1/chat/completions "{$messages,\"max_completion_tokens\":4,\"max_tokens\":9,\"temperature\":0}"
golden chat.json
check_equal 'chat: the stream has the same text' "$text" "$(jq -r '.choices[0].message.content' "$scratch/body")"
request /v1/chat/completions "{$messages,\"max_tokens\":2,\"temperature\":0,\"stream\":true,\"logprobs\":true,\"top_logprobs\":2}"
golden chat_logprobs.sse
"$volley" run "${model[@]}" --json --chat-template chatml --system 'Tell a story.' -p 'Who are you?' \
    -n 30 --seed 7 --temp 1 --top-p 1 2>/dev/null | jq -j .text >"$scratch/run"
request /v1/chat/completions "{$messages,\"max_tokens\":30,\"seed\":7}"
jq -j '.choices[0].message.content' "$scratch/body" >"$scratch/served"
check 'chat: the same text as volley run --chat' cmp "$scratch/run" "$scratch/served"
request /v1/completions '{"prompt":"The cat sat on the mat and","temperature":0}'
check 'the end of a text: stop' jq -e '.choices[0].finish_reason == "stop"
    and .usage.completion_tokens > 5' "$scratch/body"
messages='{"role":"system","content":"You tell long stories about animals, in simple words, to small children."},
    {"role":"user","content":"Tell me about a cat."}'
request /v1/chat/completions "{\"messages\":[$messages],\"max_tokens\":20,\"seed\":1}"
answer=$(jq -c '{role:"assistant",content:.choices[0].message.content}' "$scratch/body")
asked=$(jq .usage.prompt_tokens "$scratch/body")
request /v1/chat/completions "{\"messages\":[$messages,$answer,{\"role\":\"user\",\"content\":\"And then?\"}],\"max_tokens\":4,\"seed\":1}"
check 'the next turn computes only what is new' test "$(cached)" -ge $((asked / 32 * 32))
request /v1/chat/completions '{"messages":[{"role":"assistant"}]}'
check_equal 'a message without content' '400 messages[0].content' "$code $(jq -r .error.param "$scratch/body")"
call='{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}'
request /v1/chat/completions "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},
    {\"role\":\"assistant\",\"content\":null,\"tool_calls\":[$call]},{\"role\":\"user\",\"content\":\"b\"}],\"max_tokens\":1}"
check_equal 'unless it called tools' 200 "$code"
stop_server
