#!/usr/bin/env bash
# volley tokenize: its three forms of output, its inputs, and what it refuses.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1
smol=models/smol-stories-11M-q8_0.gguf
mistral=tests/data/tokenizers/mistral-v0.3.gguf

check_exit "plain" 0 "$volley" tokenize -m $smol -p "Hello World"
check_equal "plain: one line of ids" "19556 2260" "$out"
check_exit "JSON" 0 "$volley" tokenize -m $mistral --json --bos -p $'a\n"'
check_equal "JSON: ids and pieces" \
    '{"ids":[1,1032,781,29507],"pieces":["<s>","▁a","<0x0A>","\""]}' "$out"
check_exit "special text is text" 0 "$volley" tokenize -m $smol -p "<|im_end|>"
check_equal "special text is text: ids" "44 108 306 79 486 108 46" "$out"
check_exit "special text is parsed" 0 "$volley" tokenize -m $smol --parse-special -p "<|im_end|>"
check_equal "special text is parsed: ids" "2" "$out"
check_exit "no text" 0 "$volley" tokenize -m $smol --json -p ""
check_equal "no text: no ids" '{"ids":[],"pieces":[]}' "$out"

printf 'a\0b' >"$scratch/text"
check_exit "a file" 0 "$volley" tokenize -m $smol -f "$scratch/text"
check_equal "a file: with a zero byte" "81 190 82" "$out"
check_equal "standard input" "81 190 82" "$("$volley" tokenize -m $smol <"$scratch/text")"

for vectors in smollm2:$smol:--parse-special mistral_v3:$mistral:; do
    IFS=: read -r name model option <<<"$vectors"
    file=tests/data/tokenizers/$name.jsonl
    sed 's/.*\("ids": *\[[^]]*\]\).*/{\1}/; s/ //g' "$file" >"$scratch/expected"
    "$volley" tokenize -m "$model" $option --jsonl <"$file" >"$scratch/got"
    check "JSON lines: $name" cmp "$scratch/expected" "$scratch/got"
done

# Each line is answered before the next is asked.
coproc lines { exec "$volley" tokenize -m $smol --jsonl; }
to=${lines[1]} from=${lines[0]} pid=$lines_PID # unset once it has ended
echo '{"text":"a"}' >&"$to"
read -r -t $patience first <&"$from"
echo '{"text":"b"}' >&"$to"
read -r -t $patience second <&"$from"
exec {to}>&-
wait "$pid"
check_equal "JSON lines: one by one" '{"ids":[81]} {"ids":[82]}' "$first $second"

bad_line() { # NAME LINE PATTERN
    printf '{"text":"a"}\n%s\n' "$2" >"$scratch/lines"
    "$volley" tokenize -m $smol --jsonl <"$scratch/lines" >"$scratch/out" 2>"$scratch/err"
    check_equal "$1: exit status" 1 $?
    check_equal "$1: the lines before it" '{"ids":[81]}' "$(cat "$scratch/out")"
    check_match "$1: is named" "line 2: $3" "$(cat "$scratch/err")"
}
bad_line "an empty line" '' 'expected one JSON value'
bad_line "no JSON" '{"text":' 'expected one JSON value'
bad_line "no text" '{}' 'expected an object'
bad_line "a number" '{"text":1}' 'expected an object'
bad_line "not UTF-8" $'{"text":"\xff"}' 'expected JSON in UTF-8'
bad_line "half a character" '{"text":"\ud800"}' 'expected one JSON value'

# Typed on a terminal: its end is typed once, and the terminal stays.
if script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
    mkfifo "$scratch/keys"
    script -qefc "'$volley' tokenize -m $smol" /dev/null <"$scratch/keys" >"$scratch/tty" 2>&1 &
    pid=$!
    exec 3>"$scratch/keys"
    printf 'a\n\004' >&3
    wait_for grep -q '81 198' "$scratch/tty"
    check_match "a terminal: the ids, while it stays" '81 198' "$(cat "$scratch/tty")"
    exec 3>&-
    wait $pid
else
    skip "a terminal" "there is no script"
fi

check_exit "no model" 2 "$volley" tokenize -p a
check_exit "two texts" 2 "$volley" tokenize -m $smol -p a -f b
check_exit "JSON lines and a text" 2 "$volley" tokenize -m $smol --jsonl -p a
check_exit "JSON and JSON lines" 2 "$volley" tokenize -m $smol --json --jsonl
check_exit "an argument" 2 "$volley" tokenize -m $smol a
check_exit "no such file" 1 "$volley" tokenize -m $smol -f "$scratch/none"
check_exit "no model there" 1 "$volley" tokenize -m "$scratch/none" -p a
check_exit "a model that is none" 1 "$volley" tokenize -m "$scratch/text" -p a
check_match "a model that is none: is named" "$scratch/text" "$err"
check_exit "help" 0 "$volley" tokenize --help
check_match "help: names its options" "--parse-special" "$out"
