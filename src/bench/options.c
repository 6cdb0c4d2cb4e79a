/* The options of the benches: one table says which bench takes what, and how help explains it. */
#include "bench/spec.h"
#include "cli/cli.h"
#include "gguf/synthetic.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DECODE   VLY_BENCH_DECODE
#define VERIFY   VLY_BENCH_VERIFY
#define PREFILL  VLY_BENCH_PREFILL
#define BLOCK    VLY_BENCH_BLOCK
#define LOAD     VLY_BENCH_LOAD
#define KERNEL   VLY_BENCH_KERNEL
#define SPEC     VLY_BENCH_SPEC
#define PASSES   (DECODE | VERIFY | PREFILL | BLOCK | LOAD | KERNEL)
#define ALL      (PASSES | SPEC)
#define MAX_LIST 64

typedef enum {
    TEXT,      /* const char * */
    SYNTHETIC, /* const char *, the value with the prefix of synthetic models */
    FLAG,      /* bool */
    COUNT,     /* uint32_t in min..max */
    LIST,      /* vly_ids, each in min..max */
    REAL,      /* double in min..max */
    REALS,     /* vly_reals, each in min..max */
    KV,        /* bool kv_f16 */
    KVS,       /* vly_ids of 0: int8, 1: f16 */
    DRAFTS,    /* vly_ids, each in min..max or VLY_SPEC_AUTO */
    METHODS,   /* vly_ids of vly_draft_method */
    HELP
} kind;

typedef struct {
    unsigned benches;
    char letter;
    const char *name, *value;
    kind kind;
    size_t offset;
    uint32_t min, max;
    const char *help;
} option_row;

#define AT(field) offsetof(vly_bench_options, field)

#define VLY_DRAFT_METHOD(id, name, ...) " " name
static const char method_help[] = "ways to draft (model where there is a draft, else ngram), of"
#include "drafts/methods.def"
    ;
#undef VLY_DRAFT_METHOD

static const option_row rows[] = {
    {ALL, 'm', "model", "FILE", TEXT, AT(target), 0, 0, "file or name of the model"},
    {ALL, 0, "synthetic", "SHAPE:FORMAT", SYNTHETIC, AT(target), 0, 0,
     "in its place random weights of a real shape, like mistral-7b:q8_0, or of dimensions, like\n"
     "dim=64,layers=2,heads=4,vocab=512:f16; a wrong name lists those there are"},
    {SPEC, 'd', "draft", "FILE", TEXT, AT(draft), 0, 0,
     "file or name of the draft, or 'none' (without -m that of the shipped pair)"},
    {SPEC, 0, "prompts", "FILE", TEXT, AT(prompts), 0, 0,
     "JSON lines of {\"category\": \"...\", \"turns\": [\"...\", ...]} (spec_bench.jsonl where "
     "the\n"
     "model has a chat template, else stories.jsonl; both ship in bench/prompts)"},
    {SPEC, 0, "limit", "N", COUNT, AT(limit), 0, 1u << 20,
     "prompts to take, spread over the set; 0: all (6)"},
    {SPEC, 0, "seeds", "N", COUNT, AT(n_seeds), 1, 1000,
     "texts of each prompt above temperature 0 (1)"},
    {SPEC, 0, "temp", "T,...", REALS, AT(temperatures), 0, 100, "temperatures (0,0.7,1)"},
    {SPEC, 'k', "draft-max", "K,...", DRAFTS, AT(sizes), 0, VLY_MAX_DRAFT,
     "drafted tokens of a block, 'auto' among them leaving it to the governor (0,1,2,3,4,6,8,auto)"},
    {SPEC, 0, "methods", "NAME,...", METHODS, AT(methods), 0, 0, method_help},
    {SPEC, 0, "compare-rules", NULL, FLAG, AT(compare_rules), 0, 0,
     "also how often a first drafted token would be accepted under the keyed noise, by\n"
     "rejection sampling, and with a greedy draft, all from the same logits (slow)"},
    {SPEC, 0, "chat-template", "NAME|FILE", TEXT, AT(chat_template), 0, 0,
     "spell conversations so and not as the model file says"},
    {SPEC, 'c', "ctx", "N", COUNT, AT(n_ctx), 0, VLY_BENCH_MAX_CTX,
     "tokens of prompt and text at most; 0: the target's own number (0)"},
    {BLOCK | LOAD, 'd', "draft", "FILE", TEXT, AT(draft), 0, 0, "file or name of the draft"},
    {BLOCK | LOAD | SPEC, 0, "synthetic-draft", "SHAPE:FORMAT", SYNTHETIC, AT(draft), 0, 0,
     "in its place random weights"},
    {DECODE, 0, "contexts", "N,...", LIST, AT(contexts), 0, VLY_BENCH_MAX_CTX,
     "tokens before those that are decoded (0,128,512,2048,8192, as far as the model goes)"},
    {VERIFY, 0, "sizes", "N,...", LIST, AT(sizes), 1, VLY_MAX_BATCH,
     "tokens of a pass (1,2,3,4,5,6,8,12,16)"},
    {PREFILL, 0, "sizes", "N,...", LIST, AT(sizes), 1, VLY_BENCH_MAX_CTX,
     "tokens of a prompt (64,128,256,512,1024,2048, as far as the model goes)"},
    {BLOCK, 'k', "draft-max", "K,...", LIST, AT(sizes), 1, VLY_MAX_DRAFT,
     "drafted tokens of a block (1,2,3,4,5,6,8,10,12,15)"},
    {BLOCK | SPEC, 0, "synthetic-accept", "L", REAL, AT(accept), 1, VLY_MAX_DRAFT + 1,
     "a mean accepted length to pretend, in place of what is really accepted"},
    {KERNEL, 'b', "batch", "N,...", LIST, AT(sizes), 1, VLY_MAX_BATCH, "tokens of a step (1,8)"},
    {VERIFY | BLOCK | KERNEL, 'c', "ctx", "N", COUNT, AT(n_ctx), 0, VLY_BENCH_MAX_CTX,
     "tokens before those that are measured (128)"},
    {DECODE | BLOCK | SPEC, 'n', "tokens", "N", COUNT, AT(n_tokens), 2, 1u << 20,
     "tokens of one measurement (decode 32, block 128, spec 64)"},
    {PASSES, 'r', "repeat", "N", COUNT, AT(n_repeat), 1, 10000, "measurements of each figure"},
    {DECODE | VERIFY | PREFILL, 0, "profile", NULL, FLAG, AT(profile), 0, 0,
     "the time of each step of a pass too"},
    {SPEC, 0, "kv", "int8,f16", KVS, AT(kvs), 0, 0,
     "how the caches store keys and values: one or both (int8)"},
    {SPEC, 0, "html", "FILE", TEXT, AT(html), 0, 0,
     "write a page with charts, which needs nothing from elsewhere"},
    {PASSES, 0, "kv", "int8|f16", KV, AT(kv_f16), 0, 0,
     "how the cache stores keys and values (int8)"},
    {ALL, 0, "arch", "FILE", TEXT, AT(arch), 0, 0,
     "JSON file that describes an architecture beside the known ones (docs/models.md)"},
    {ALL, 0, "device", "D", TEXT, AT(device), 0, 0,
     "Vulkan device: a number or part of a name of 'volley devices' (the best one)"},
    {ALL, 0, "csv", "FILE", TEXT, AT(csv), 0, 0,
     "write CSV; to '-', standard output, in place of the tables"},
    {ALL, 0, "json", "FILE", TEXT, AT(json), 0, 0, "the same as JSON"},
    {ALL, 'h', "help", NULL, HELP, 0, 0, 0, "show this help"},
};
#define N_ROWS (sizeof rows / sizeof *rows)

static void print_help(vly_bench_kind bench, const char *name, const char *summary)
{
    printf("usage: volley bench %s %s[OPTION...]\n\n"
           "Measures %s.\n\nOptions:\n",
           name, bench == SPEC ? "" : "(-m FILE | --synthetic SHAPE:FORMAT) ", summary);
    for (size_t i = 0; i < N_ROWS; i++) {
        const option_row *row = &rows[i];
        if (!(row->benches & (unsigned)bench)) continue;
        char head[64], letter[] = "    ";
        if (row->letter) memcpy(letter, (char[]){'-', row->letter, ',', ' '}, 4);
        snprintf(head, sizeof head, "  %s--%s%s%s", letter, row->name, row->value ? " " : "",
                 row->value ? row->value : "");
        printf("%-31s ", head);
        for (const char *line = row->help; line;) {
            const char *end = strchr(line, '\n');
            printf("%.*s\n", end ? (int)(end - line) : (int)strlen(line), line);
            line = end ? end + 1 : NULL;
            if (line) printf("%32s", "");
        }
    }
    printf("\nExit status: 0 done, 1 failed, 2 wrong usage.\n");
}

/* ---- values ---- */

/* Copies the next of the words with commas between to `word` [n] and moves *text behind it; false
 * where it is too long. *text becomes NULL behind the last. */
static bool next_word(const char **text, char *word, size_t n)
{
    size_t len = strcspn(*text, ",");
    if (len >= n) return false;
    memcpy(word, *text, len);
    word[len] = '\0';
    *text = (*text)[len] ? *text + len + 1 : NULL;
    return true;
}

static int method_of(const char *name)
{
    for (int i = 0; i < VLY_N_DRAFT_METHODS; i++) {
        const char *known = vly_draft_method_name(i);
        if (known && strcmp(known, name) == 0) return i;
    }
    return -1;
}

/* One word of a list; 0 or -1. */
static int parse_word(const option_row *row, const char *word, uint32_t *out)
{
    uint64_t value;
    int method;
    switch (row->kind) {
    case KVS:
        *out = word[0] == 'f';
        return strcmp(word, "int8") != 0 && strcmp(word, "f16") != 0 ? -1 : 0;
    case METHODS:
        method = method_of(word);
        *out = (uint32_t)method;
        return method < 0 ? -1 : 0;
    default:
        *out = VLY_SPEC_AUTO;
        if (row->kind == DRAFTS && strcmp(word, "auto") == 0) return 0;
        if (vly_cli_parse_u64(word, row->min, row->max, &value)) return -1;
        *out = (uint32_t)value;
        return 0;
    }
}

static int parse_list(const option_row *row, const char *text, vly_ids *list)
{
    char word[32];
    uint32_t value;
    list->len = 0;
    while (text)
        if (list->len == MAX_LIST || !next_word(&text, word, sizeof word) ||
            parse_word(row, word, &value) || vly_ids_push(list, value))
            return -1;
    return 0;
}

static int parse_reals(const option_row *row, const char *text, vly_reals *list)
{
    char word[32];
    list->len = 0;
    while (text)
        if (list->len == sizeof list->data / sizeof *list->data ||
            !next_word(&text, word, sizeof word) ||
            vly_cli_parse_double(word, row->min, row->max, &list->data[list->len++]))
            return -1;
    return 0;
}

static int parse_synthetic(const char *text, vly_bench_options *o, const char **field)
{
    char *name = o->synthetic[field == &o->draft];
    int n = snprintf(name, sizeof o->synthetic[0], "%s%s", VLY_SYNTHETIC_PREFIX, text);
    *field = name;
    return n < (int)sizeof o->synthetic[0] ? 0 : -1;
}

static int parse_value(const option_row *row, const char *text, vly_bench_options *o)
{
    void *field = (char *)o + row->offset;
    uint64_t count;
    switch (row->kind) {
    case TEXT:
        *(const char **)field = text;
        return 0;
    case SYNTHETIC:
        return parse_synthetic(text, o, field);
    case FLAG:
        *(bool *)field = true;
        return 0;
    case COUNT:
        if (vly_cli_parse_u64(text, row->min, row->max, &count)) return -1;
        *(uint32_t *)field = (uint32_t)count;
        return 0;
    case LIST:
    case KVS:
    case DRAFTS:
    case METHODS:
        return parse_list(row, text, field);
    case REALS:
        return parse_reals(row, text, field);
    case REAL:
        return vly_cli_parse_double(text, row->min, row->max, field);
    case KV:
        if (strcmp(text, "int8") != 0 && strcmp(text, "f16") != 0) return -1;
        *(bool *)field = text[0] == 'f';
        return 0;
    case HELP:
        break;
    }
    return -1;
}

static int value_error(const char *bench, const option_row *row, const char *text)
{
    char expected[96];
    bool list = row->kind == LIST || row->kind == DRAFTS;
    if (row->kind == KV || row->kind == KVS)
        snprintf(expected, sizeof expected, "int8 or f16%s", row->kind == KVS ? ", or both" : "");
    else if (row->kind == SYNTHETIC)
        snprintf(expected, sizeof expected, "%s of at most 200 characters", row->value);
    else if (row->kind == METHODS)
        snprintf(expected, sizeof expected, "%s", row->help);
    else if (row->kind == REAL || row->kind == REALS)
        snprintf(expected, sizeof expected, "%s, %u to %u",
                 row->kind == REAL ? "a number" : "numbers", row->min, row->max);
    else
        snprintf(expected, sizeof expected, "%s, %u to %u%s",
                 list ? "whole numbers" : "a whole number", row->min, row->max,
                 list ? ", with commas between" : "");
    return vly_cli_usage_error(bench, "option '--%s': expected %s, got '%s'", row->name, expected,
                               text);
}

/* ---- the command line ---- */

static int set_defaults(vly_bench_kind bench, vly_bench_options *o)
{
    static const uint32_t contexts[] = {0, 128, 512, 2048, 8192};
    static const uint32_t verify[] = {1, 2, 3, 4, 5, 6, 8, 12, 16};
    static const uint32_t prefill[] = {64, 128, 256, 512, 1024, 2048};
    static const uint32_t block[] = {1, 2, 3, 4, 5, 6, 8, 10, 12, 15};
    static const uint32_t spec[] = {0, 1, 2, 3, 4, 6, 8, VLY_SPEC_AUTO};
    *o = (vly_bench_options){.n_ctx = 128, .n_tokens = bench == BLOCK ? 128 : 32};
    int rc = 0;
    if (bench == DECODE) rc = vly_ids_append(&o->contexts, contexts, 5);
    if (bench == VERIFY) rc = vly_ids_append(&o->sizes, verify, 9);
    if (bench == PREFILL) rc = vly_ids_append(&o->sizes, prefill, 6);
    if (bench == BLOCK) rc = vly_ids_append(&o->sizes, block, 10);
    if (bench == SPEC) {
        rc = vly_ids_append(&o->sizes, spec, 8);
        if (rc == 0) rc = vly_ids_push(&o->kvs, 0);
        o->temperatures = (vly_reals){{0, 0.7, 1}, 3};
        o->n_ctx = 0;
        o->n_tokens = 64;
        o->limit = 6;
        o->n_seeds = 1;
    }
    if (bench == KERNEL) rc = vly_ids_append(&o->sizes, (const uint32_t[]){1, 8}, 2);
    o->n_repeat = bench == VERIFY ? 20 : bench == LOAD ? 3 : 5;
    return rc;
}

static void make_getopt_tables(vly_bench_kind bench, struct option *longs, char *shorts)
{
    *shorts++ = ':';
    for (size_t i = 0; i < N_ROWS; i++) {
        if (!(rows[i].benches & (unsigned)bench)) continue;
        *longs++ = (struct option){rows[i].name, rows[i].value ? required_argument : no_argument,
                                   NULL, 256 + (int)i};
        if (rows[i].letter) *shorts++ = rows[i].letter;
        if (rows[i].letter && rows[i].value) *shorts++ = ':';
    }
    *longs = (struct option){0};
    *shorts = '\0';
}

static const option_row *find_row(vly_bench_kind bench, int got)
{
    if (got >= 256) return &rows[got - 256];
    for (size_t i = 0; i < N_ROWS; i++)
        if ((rows[i].benches & (unsigned)bench) && rows[i].letter == got) return &rows[i];
    return NULL;
}

int vly_bench_options_parse(vly_bench_kind bench, const char *summary, int argc, char **argv,
                            vly_bench_options *o)
{
    struct option longs[N_ROWS + 1];
    char shorts[2 * N_ROWS + 2], name[64];
    make_getopt_tables(bench, longs, shorts);
    snprintf(name, sizeof name, "bench %s", argv[0]);
    if (set_defaults(bench, o)) return vly_cli_usage_error(name, "no memory for its options");
    opterr = 0;
    for (int got; (got = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        const option_row *row = got == '?' || got == ':' ? NULL : find_row(bench, got);
        if (!row) return vly_cli_option_error(name, got, argv);
        if (row->kind == HELP) {
            print_help(bench, argv[0], summary);
            return -1;
        }
        if (parse_value(row, optarg, o)) return value_error(name, row, optarg);
    }
    if (optind < argc) return vly_cli_usage_error(name, "unexpected argument '%s'", argv[optind]);
    if (!o->target && bench != SPEC)
        return vly_cli_usage_error(name,
                                   "a model is missing: give -m FILE or --synthetic SHAPE:FORMAT");
    return 0;
}

void vly_bench_options_deinit(vly_bench_options *o)
{
    vly_ids_free(&o->contexts);
    vly_ids_free(&o->sizes);
    vly_ids_free(&o->methods);
    vly_ids_free(&o->kvs);
}

int vly_bench_main(vly_bench_kind bench, const char *summary, vly_bench_fn *measure, int argc,
                   char **argv)
{
    vly_bench_options o = {0};
    vly_error err;
    int status = vly_bench_options_parse(bench, summary, argc, argv, &o);
    if (status == 0) {
        vly_report *report = vly_report_create(argv[0]);
        int rc = report ? 0 : vly_fail(&err, VLY_E_HOST_MEMORY, "no memory for a report");
        const char *const paths[] = {o.csv, o.json, o.html};
        for (int i = 0; rc == 0 && i < 3; i++) rc = vly_report_check_path(paths[i], &err);
        if (rc == 0) rc = measure(&o, report, &err);
        if (rc == 0) rc = vly_report_write(report, o.csv, o.json, &err);
        if (rc == 0 && !vly_report_has_rows(report))
            rc = vly_fail(&err, VLY_E_CONTEXT, "nothing was measured: the notes tell why");
        if (rc) status = vly_cli_fail(&err);
        vly_report_destroy(report);
    }
    vly_bench_options_deinit(&o);
    return status < 0 ? 0 : status;
}
