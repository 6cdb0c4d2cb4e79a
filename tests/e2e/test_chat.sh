#!/usr/bin/env bash
# Conversations: volley run --chat, volley chat through pipes and on a terminal.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1

export XDG_STATE_HOME=$scratch/state
target=tests/models/stories15M-f16.gguf
draft=tests/models/smol-stories-11M-f16.gguf
greedy=(-m $target -d none --temp 0)

# ---- volley run --chat ----

check_exit 'run --chat without a template' 1 "$volley" run "${greedy[@]}" --chat -p Hi
check_match 'run --chat without a template: how to give one' 'no chat template.*--chat-template' "$err"
check_exit 'run --chat-template' 0 "$volley" run "${greedy[@]}" --json -n 4 -p Hi --chat-template mistral-v0.1
check_equal 'run --chat-template: the prompt' '<s> [INST] Hi [/INST]' "$(jq -r .prompt "$scratch/out")"
check 'run --chat-template: one beginning of text' jq -e '.prompt_tokens | .[0] == 1 and .[1] != 1' "$scratch/out"
check_exit 'run --system' 0 "$volley" run "${greedy[@]}" --json -n 4 -p Hi --chat-template llama2 --system 'Be brief.'
check_equal 'run --system: the prompt' '<s>[INST] <<SYS>>|Be brief.|<</SYS>>||Hi [/INST]' \
    "$(jq -r .prompt "$scratch/out" | tr '\n' '|' | sed 's/|$//')"
check_exit 'run --chat-template with what is none' 1 "$volley" run "${greedy[@]}" -p Hi --chat-template nothing
check_match 'run --chat-template with what is none: the names' 'mistral-v0.3.*nothing' "$err"
check_exit 'run --chat-template with an unknown one' 1 "$volley" run "${greedy[@]}" -p Hi --chat-template README.md
check_match 'run --chat-template with an unknown one: why' 'no known family' "$err"
jq -j .template tests/data/templates/zephyr.json >"$scratch/zephyr.jinja"
check_exit 'run --chat-template FILE' 0 "$volley" run "${greedy[@]}" --json -n 4 -p Hi --chat-template "$scratch/zephyr.jinja"
check_match 'run --chat-template FILE: the prompt' '<\|user\|>' "$(jq -r .prompt "$scratch/out")"
check_exit 'run -v' 0 "$volley" run "${greedy[@]}" -v -n 4 -p Hi --chat-template "$scratch/zephyr.jinja"
check_match 'run -v: the family that it was recognised as' 'spelled as by zephyr' "$err"
check_exit 'verify --chat' 0 "$volley" verify -m $target -d $draft --chat-template chatml -p Hi -n 12 --seed 3
check_match 'verify --chat: identical' identical "$out"

# ---- volley chat through pipes ----

chat() { # OPTION...: answers to what comes from standard input
    status=0
    "$volley" chat -m $target -d $draft --chat-template chatml --temp 0 -n 12 "$@" \
        >"$scratch/out" 2>"$scratch/err" || status=$?
    out=$(cat "$scratch/out") err=$(cat "$scratch/err")
}
answer=$("$volley" run "${greedy[@]}" --chat-template chatml -n 12 -p 'Who is there?' 2>"$scratch/err" | sed 's/^ //')
chat < <(printf '%s\n' 'Who is there?' '/stats' 'And you?' '/stats' '/reset' '' 'Who is there?')
check_equal 'pipe: exit status' 0 $status
check_equal 'pipe: three answers' 3 "$(wc -l <"$scratch/out")"
check_equal 'pipe: the first answer is what run writes' "$answer" "$(sed -n 1p "$scratch/out")"
check_equal 'pipe: after /reset it is the same again' "$answer" "$(sed -n 3p "$scratch/out")"
check_match 'pipe: /stats counts messages' '^conversation  4 messages, [0-9]+ of 256 tokens' "$err"
check_match 'pipe: /stats sums answers' '^all answers +prompt [0-9]+ tokens' "$err"
check 'pipe: no prompt is printed' sh -c '! grep -q "^> " "$1"' sh "$scratch/out"
chat --system 'Be brief.' < <(printf '%s\n' 'Hi' '/stats' '/reset' '/system' 'Hi' '/stats' '/exit' 'Hi')
check_equal 'system: two answers before /exit' 2 "$(wc -l <"$scratch/out")"
check 'system: it is part of the prompt until it is dropped' sh -c '
    set -- $(sed -n "s/^last answer *prompt \([0-9]*\).*/\1/p" "$1"); [ "$1" -gt "$2" ]' sh "$scratch/err"
chat < <(printf 'one\\\ntwo\n/stats\n')
check_match 'a line that goes on: one message' '^conversation  2 messages' "$err"
chat < <(printf '/nothing\n/stats now\n/help\n')
check_equal 'unknown commands: exit status' 1 $status
check_match 'unknown commands are told' "unknown command '/nothing'" "$err"
check_match 'arguments that are too many are told' "/stats takes no argument" "$err"
check_match '/help lists' '^/system TEXT ' "$err"
chat -c 40 -n -1 < <(printf '%s\n' 'Who is there?' 'And now?' '/reset' 'Who is there?')
check_match 'full context: an answer that fills it says so' '^\(the context is full; /reset' "$err"
check_match 'full context: a message that does not fit says so' 'context of 40.*; /reset begins anew' "$err"
check_equal 'full context: goes on after /reset' 2 "$(grep -c . "$scratch/out")"
chat --chat-template mistral-v0.2 < /dev/null
check_equal 'no input: exit status' 0 $status
check_exit 'chat without a template' 1 "$volley" chat "${greedy[@]}"
check_match 'chat without a template: how to give one' '--chat-template NAME' "$err"
check_exit 'chat takes no prompt' 2 "$volley" chat -p Hi
chat --chat-template chatml < <(printf 'caf\303\251 \377\000x\n')
check_equal 'bytes that are no text: exit status' 0 $status
check 'no history without a terminal' test ! -e "$scratch/state"

# ---- Ctrl-C in a pipe ----

shows() { # FILE PATTERN
    grep -qaE -- "$2" "$1"
}
# Writes one word for ever, so that only Ctrl-C ends an answer.
word=' ab'
endless_chat=(chat -m "$endless" -d none --chat-template chatml
    --logit-bias "$("$volley" tokenize -m "$endless" -p "$word"):1000")
mkfifo "$scratch/in"
: >"$scratch/out"
"$volley" "${endless_chat[@]}" <"$scratch/in" >"$scratch/out" 2>"$scratch/err" &
pid=$!
exec 3>"$scratch/in"
echo 'Tell me a story.' >&3
wait_for shows "$scratch/out" "($word){3}"
kill -INT $pid
echo '/stats' >&3
wait_for shows "$scratch/err" '^conversation  2 messages'
check_match 'Ctrl-C: the answer ends, the conversation goes on' '^conversation  2 messages' "$(cat "$scratch/err")"
exec 3>&-
status=0
wait $pid || status=$?
check_equal 'Ctrl-C: exit status at the end of the input' 0 $status

# ---- on a terminal ----

if script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
    rm "$scratch/in"
    mkfifo "$scratch/in"
    : >"$scratch/tty"
    script -qefc "stty cols 100; '$volley' ${endless_chat[*]}; echo status \$?" /dev/null \
        <"$scratch/in" >"$scratch/tty" 2>&1 &
    pid=$!
    exec 3>"$scratch/in"
    # Types the keys once the program has asked for the line of this number.
    n_lines=0
    asked() { [ "$(grep -ca '^> ' "$scratch/tty")" -ge $n_lines ]; }
    type_line() { n_lines=$((n_lines + 1)) && wait_for asked && type_keys "$1"; }
    type_keys() { printf '%b' "$1" >&3; }
    type_line '/tats\033[D\033[D\033[D\033[Ds\r' # four to the left
    check_match 'terminal: the model is named' 'q8_0. /help' "$(cat "$scratch/tty")"
    check 'terminal: a line can be edited' wait_for shows "$scratch/tty" 'conversation  0 messages'
    check 'terminal: it is that line' sh -c '! grep -qa "unknown command" "$1"' sh "$scratch/tty"
    type_line 'Tell me a story.\r'
    wait_for shows "$scratch/tty" "($word){9}"
    type_keys '\003'
    type_line '/stats\r'
    check 'terminal: Ctrl-C ends the answer and not the program' \
        wait_for shows "$scratch/tty" 'conversation  2 messages'
    check 'terminal: before its own end' sh -c '! grep -qa "context is full" "$1"' sh "$scratch/tty"
    type_line 'typed'
    wait_for shows "$scratch/tty" '^> typed'
    type_keys '\003'
    type_line '\033[A\r' # the line before: /stats
    three_times() { [ "$(grep -ca '^conversation  ' "$scratch/tty")" = 3 ]; }
    check 'terminal: Ctrl-C drops a line; the one before comes back' wait_for three_times
    type_line '\003'
    check 'terminal: Ctrl-C on an empty line leaves' wait_for shows "$scratch/tty" 'status 0'
    exec 3>&-
    wait $pid
    check_match 'terminal: the history is kept' 'Tell' "$(cat "$scratch/state/volley/history")"
    check_equal 'terminal: for its owner only' 600 "$(stat -c %a "$scratch/state/volley/history")"
else
    skip 'a terminal' 'there is no script(1)'
fi

"$volley" chat --help >"$scratch/help"
check_equal "chat --help: no line passes 80 columns" '' "$(awk 'length > 80' "$scratch/help")"
