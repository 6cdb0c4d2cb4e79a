#!/usr/bin/env bash
# volley bench: every bench over small models of random weights; what its reports say, not how fast it is.
. "$(dirname "$0")/lib.sh"
export TMPDIR=$scratch

target=dim=64,layers=2,heads=4,kv_heads=2,ff=96,vocab=600,ctx=256
draft=dim=32,layers=1,heads=2,vocab=400,ctx=256

# bench NAME OPTION...: runs it with --json, into $scratch/json.
bench() {
    local name=$1
    shift
    check_exit "bench $name $*" 0 "$volley" bench "$name" "$@" --json -
    printf '%s\n' "$out" >"$scratch/json"
}

# says NAME FILTER: the report makes the jq filter true.
says() {
    check "$1" jq -e "$2" "$scratch/json"
}

# ---- decode

bench decode --synthetic $target:q8_0 --contexts 0,40,1000 -n 4 -r 2
says 'decode: where and what' '.bench == "decode" and (.device | length > 0) and
    (.driver | length > 0) and .read_gb_per_s > 0 and .kv == "int8" and .weights_mib > 0'
says 'decode: a row for each context that fits' '[.rows[].context] == ["0", "40"]'
says 'decode: and a word about the one that does not' '.notes | any(test("1000"))'
says 'decode: figures' '.rows | all(.tokens_per_s > 0 and .min <= .tokens_per_s and
    .tokens_per_s <= .max and .ms_p10 <= .ms and .ms <= .ms_p90 and .pass_ms > 0 and .gpu_ms > 0)'

# ---- verify

bench verify --synthetic $target:f16 --sizes 1,3,16 -c 20 -r 3 --kv f16 --profile
says 'verify: a row for each size' '[.rows[].n] == ["1", "3", "16"] and .context == 20'
says 'verify: the first is the measure of the others' '.rows[0].ratio == 1 and
    (.rows | all(.gpu_min <= .gpu_ms and .gpu_ms <= .wall_ms and .limit_percent > 0))'
says 'verify: the steps of each pass' '[.steps[] | select(.tokens == 3) | .step] ==
    ["embed", "qkv", "attention", "out", "gate_up", "down", "head", "pick", "all"]'
says 'verify: a layer has five steps' '.steps[] | select(.tokens == 16 and .step == "all").steps == 13'
says 'verify: what the steps read' '(.steps[] | select(.tokens == 1 and .step == "qkv") | .mb) as $mb
    | $mb > 0.03 and $mb < 0.05' # 2 layers of 128 rows of 64 halves: 32 kB, or padded to tiles

# ---- prefill

bench prefill --synthetic $target:q8_0 --sizes 16,100,400 -r 2 --profile
says 'prefill: rows' '[.rows[].tokens] == ["16", "100"] and (.rows | all(.tokens_per_s > 0))'
says 'prefill: steps of the prompt pass' '.steps | length == 7 and all(.tokens == 255)'

# ---- block

bench block --synthetic $target:q8_0 --synthetic-draft $draft:f16 --synthetic-accept 2.5 \
    -k 1,2,4 -c 10 -n 60 -r 2
says 'block: plain decoding and each k that can reach the length' '[.rows[].k] == ["0", "2", "4", "auto"]'
says 'block: the accepted length is the one asked for' '.forced_length == 2.5 and
    (.rows[1:3] | all(.mean_length > 2.35 and .mean_length < 2.65))'
says 'block: against plain decoding' '.rows[0] | .against_plain == 1 and .mean_length == 1'
says 'block: how long the device is idle' '.rows | all(.idle_percent > 0 and .idle_percent < 100)'
says 'block: it says that the text is worthless' '.notes | any(test("worthless"))'
bench block --synthetic $target:q8_0 --synthetic-draft $draft:f16 -k 2 -c 10 -n 12 -r 1
says 'block: without a forced length, what random models agree on' \
    '.rows[1].mean_length < 2 and (.notes | any(test("worthless")) | not)'
check_exit 'block: a draft is needed' 2 "$volley" bench block --synthetic $target:q8_0
check_match 'block: it says so' 'draft' "$err"

# ---- load

bench load -m "$root/models/stories15M-q8_0.gguf" -r 1
says 'load: three starts' '[.rows[].start] == ["first", "second", "from memory"]'
says 'load: figures' '.rows | all(.ready_ms >= .open_ms + .weights_ms and .gb_per_s > 0 and
    .host_peak_mib > 1 and .device_peak_mib > 10)'
says 'load: the third start finds the file in memory' '.rows[2].cached_percent > 90'
for signal in INT TERM; do
    check_signal "load: SIG$signal ends it" 130 $signal 'ls -d "$scratch"/volley-bench-*' \
        "$volley" bench load -m "$root/models/stories15M-q8_0.gguf" -r 100
done
check_equal 'load: it leaves nothing behind' '' "$(ls -d "$scratch"/volley-bench-* 2>/dev/null)"

# ---- kernel

bench kernel --synthetic $target:q8_0 -b 2 -c 5 -r 1
says 'kernel: each step, with its format' '[.rows[].step] == ["embed", "qkv q8_0", "attention",
    "out q8_0", "gate_up q8_0", "down q8_0", "head q8_0", "pick"]'
says 'kernel: figures' '.rows | all(.tokens == 2 and .us > 0) and
    ([.[] | select(.step | test("q8_0"))] | all(.mb > 0 and .gb_per_s > 0))'

# ---- file

check_exit 'file: it is written' 0 "$volley" bench file $target:q8_0 "$scratch/model.gguf"
"$volley" run -m synthetic:$target:q8_0 -d none -p ' a b' -n 8 --temp 0 --ignore-eos --json |
    jq -c .tokens >"$scratch/synthetic"
check_equal 'file: the model is the synthetic one' "$(cat "$scratch/synthetic")" \
    "$("$volley" run -m "$scratch/model.gguf" -d none -p ' a b' -n 8 --temp 0 --ignore-eos --json |
        jq -c .tokens)"
check_exit 'file: an unknown shape' 1 "$volley" bench file gpt:q8_0 "$scratch/gpt.gguf"
check_exit 'file: one argument' 2 "$volley" bench file $target:q8_0

# ---- bench/formats

formats() {
    VOLLEY=$volley "$root/bench/formats" --folder "$scratch" --context 8 -n 4 -r 2 "$@"
}
check_exit 'formats: all that are asked for' 0 formats --formats q8_0,f16 --files q8_0 $target
check_equal 'formats: a line for each, with six columns or the word file' 'q8_0 6,f16 6,q8_0 7' \
    "$(awk '/^(q8_0|f16) / { print $1, NF }' <<<"$out" | paste -sd,)"
check 'formats: figures' awk '/^(q8_0|f16) / && !($(NF - 4) > 0 && $(NF - 1) > 0 && $NF ~ /^[0-9.]+$/) { exit 1 }' \
    <(printf '%s\n' "$out")
check_exit 'formats: one that there is not' 1 formats --formats q9,f16 $target
check_match 'formats: it is named' 'q9 +failed: .*expected one of' "$out"
check_match 'formats: the others go on' '(^|[^a-z])f16 +[0-9]' "$out"
check_equal 'formats: they leave nothing behind' '' "$(ls -d "$scratch"/volley-formats-* 2>/dev/null)"
printf '#!/bin/sh\necho "${4#*:}" >>"%s/asked"\n' "$scratch" >"$scratch/no-volley"
chmod +x "$scratch/no-volley"
VOLLEY=$scratch/no-volley "$root/bench/formats" --folder "$scratch" >/dev/null
check_equal 'formats: without a choice, all that Volley computes with' \
    "$("$volley" bench file ${target%%,*},layers=1:no x 2>&1 | sed 's/.*one of: //; s/, /\n/g' | sort)" \
    "$(sort "$scratch/asked")"
check_exit 'formats: an unknown option' 2 formats --what 1 $target

# ---- files and wrong usage

check_exit 'tables beside files' 0 "$volley" bench verify --synthetic $target:q8_0 --sizes 1,2 -r 1 \
    --csv "$scratch/a.csv" --json "$scratch/a.json"
check_match 'the table has a head' 'n +gpu_ms' "$out"
check 'the JSON file is one' jq -e .rows "$scratch/a.json"
check_equal 'the CSV has a head and two lines' 3 "$(wc -l <"$scratch/a.csv")"
check_equal 'which have as many fields' 1 \
    "$(sed 's/"[^"]*"//g' "$scratch/a.csv" | awk -F, '{ print NF }' | sort -u | wc -l)"
check_match 'the CSV names the columns' '^bench,table,volley,device,driver,.*,n,gpu_ms,' \
    "$(head -n 1 "$scratch/a.csv")"

check_exit 'no bench' 2 "$volley" bench
check_exit 'an unknown bench' 2 "$volley" bench nothing
check_match 'it is named' nothing "$err"
check_exit 'no model' 2 "$volley" bench decode
check_match 'it says which options' '--synthetic' "$err"
check_exit 'two models' 2 "$volley" bench decode -m a.gguf --synthetic $target:q8_0
check_match 'two models: which options' '-m and --synthetic, found both' "$err"
check_exit 'two drafts' 2 "$volley" bench block --synthetic $target:q8_0 -d a --synthetic-draft b:f16
check_match 'two drafts: which options' '-d and --synthetic-draft, found both' "$err"
check_exit 'a size beyond the limit' 2 "$volley" bench verify --synthetic $target:q8_0 --sizes 1,1000
check_exit 'no number' 2 "$volley" bench verify --synthetic $target:q8_0 --sizes 1,,2
check_exit 'an unknown shape' 1 "$volley" bench verify --synthetic gpt:q8_0
check_match 'those there are' 'mistral-7b' "$err"
check_exit 'an option of another bench' 2 "$volley" bench verify --synthetic $target:q8_0 -k 3
check_exit 'a file that cannot be written' 1 "$volley" bench verify --synthetic $target:q8_0 \
    --sizes 1 -r 1 --json "$scratch/no/file"
check_match 'which is said before anything is measured' '^volley: error: cannot write ' "$err"
check_equal 'and instead of it' '' "$out"
check_exit 'contexts that all do not fit are a failure' 1 "$volley" bench decode \
    --synthetic $target:q8_0 --contexts "$(seq -s, 900000 900030)" -n 4 -r 1
check_match 'each is named' 'context 900030: left out' "$out"
check_match 'and so is what that comes to' 'nothing was measured' "$err"
check_exit 'more tokens than there are numbers for' 1 "$volley" bench decode \
    --synthetic $target:q8_0 --contexts 0 -n 1048576 -r 4096
check_match 'it says how many' 'expected at most 16777216 tokens' "$err"
