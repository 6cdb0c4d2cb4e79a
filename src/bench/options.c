/* The options of the benches: one table says which bench takes what, and how help explains it. */
#include "bench/spec.h"
#include "cli/cli.h"
#include "cli/generate.h"
#include "cli/generate_options.h"
#include "cli/option_table.h"
#include "gguf/synthetic.h"

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

/* ---- values ---- */

static int parse_list(const vly_option_row *row, const char *text, void *o)
{
    const vly_ids *list = vly_option_field(row, o);
    return vly_option_list.parse(row, text, o) || list->len > MAX_LIST ? -1 : 0;
}

/* A list of words, each of which `parse_word` takes: 0 or -1. */
static int parse_words(const vly_option_row *row, const char *text, void *o,
                       int (*parse_word)(const vly_option_row *row, const char *word,
                                         uint32_t *out))
{
    vly_ids *list = vly_option_field(row, o);
    char word[VLY_OPTION_WORD_BYTES];
    uint32_t value;
    list->len = 0;
    while (text)
        if (list->len == MAX_LIST || vly_option_word(&text, ',', word) ||
            parse_word(row, word, &value) || vly_ids_push(list, value))
            return -1;
    return 0;
}

static int kv_of(const vly_option_row *row, const char *word, uint32_t *out)
{
    (void)row;
    *out = word[0] == 'f';
    return strcmp(word, "int8") != 0 && strcmp(word, "f16") != 0 ? -1 : 0;
}

static int method_of(const vly_option_row *row, const char *word, uint32_t *out)
{
    (void)row;
    for (*out = 0; *out < VLY_N_DRAFT_METHODS; ++*out) {
        const char *known = vly_draft_method_name((vly_draft_method)*out);
        if (known && strcmp(known, word) == 0) return 0;
    }
    return -1;
}

static int draft_max_of(const vly_option_row *row, const char *word, uint32_t *out)
{
    uint64_t value = VLY_SPEC_AUTO;
    if (strcmp(word, "auto") != 0 &&
        vly_cli_parse_u64(word, (uint64_t)row->min, (uint64_t)row->max, &value))
        return -1;
    *out = (uint32_t)value;
    return 0;
}

static int parse_kvs(const vly_option_row *row, const char *text, void *o)
{
    return parse_words(row, text, o, kv_of);
}

static int parse_methods(const vly_option_row *row, const char *text, void *o)
{
    return parse_words(row, text, o, method_of);
}

static int parse_drafts(const vly_option_row *row, const char *text, void *o)
{
    return parse_words(row, text, o, draft_max_of);
}

static int parse_real(const vly_option_row *row, const char *text, void *o)
{
    return vly_cli_parse_double(text, row->min, row->max, vly_option_field(row, o));
}

static int parse_reals(const vly_option_row *row, const char *text, void *o)
{
    vly_reals *list = vly_option_field(row, o);
    char word[VLY_OPTION_WORD_BYTES];
    list->len = 0;
    while (text)
        if (list->len == sizeof list->data / sizeof *list->data ||
            vly_option_word(&text, ',', word) ||
            vly_cli_parse_double(word, row->min, row->max, &list->data[list->len++]))
            return -1;
    return 0;
}

static int parse_synthetic(const vly_option_row *row, const char *text, void *o)
{
    char *name = vly_option_field(row, o);
    int n = snprintf(name, VLY_BENCH_NAME_BYTES, "%s%s", VLY_SYNTHETIC_PREFIX, text);
    return n < VLY_BENCH_NAME_BYTES ? 0 : -1;
}

int vly_bench_choose_model(const char *command, char letter, const char **model,
                           const char *synthetic)
{
    if (*model && *synthetic)
        return vly_cli_usage_error(command, "expected one of -%c and --synthetic%s, found both",
                                   letter, letter == 'd' ? "-draft" : "");
    if (*synthetic) *model = synthetic;
    return 0;
}

/* One list for errors, which begin behind the first words, and for help. */
#define METHOD_HELP                     "ways to draft (model where there is a draft, else ngram): "
#define VLY_DRAFT_METHOD(id, name, ...) " " name
static const char method_help[] = METHOD_HELP "some of"
#include "drafts/methods.def"
    ;
#undef VLY_DRAFT_METHOD

const vly_option_type vly_bench_list_type = {
    .parse = parse_list, .expected = "up to 64 whole numbers with commas between", .ranged = true};
static const vly_option_type drafts_type = {.parse = parse_drafts,
                                            .expected =
                                                "up to 64 whole numbers with commas between",
                                            .or_else = "auto",
                                            .ranged = true};
static const vly_option_type kvs_type = {.parse = parse_kvs, .expected = "int8, f16 or both"};
static const vly_option_type methods_type = {.parse = parse_methods,
                                             .expected = method_help + sizeof METHOD_HELP - 1};
static const vly_option_type real_type = {
    .parse = parse_real, .expected = "a number", .ranged = true};
const vly_option_type vly_bench_reals_type = {
    .parse = parse_reals, .expected = "up to 16 numbers with commas between", .ranged = true};
const vly_option_type vly_bench_synthetic_type = {
    .parse = parse_synthetic, .expected = "SHAPE:FORMAT of at most 200 characters"};

/* ---- the options ---- */

#define AT(field) offsetof(vly_bench_options, field)

static const vly_option_row rows[] = {
    {ALL, 'm', "model", NULL, "MODEL", &vly_option_text, AT(target), 0, 0,
     "file or name of the model"},
    {ALL, 0, "synthetic", NULL, "SHAPE:FORMAT", &vly_bench_synthetic_type, AT(synthetic[0]), 0, 0,
     "in its place random weights of a real shape, like mistral-7b:q8_0, or of dimensions, like "
     "dim=64,layers=2,heads=4,vocab=512:f16; a wrong name lists those there are"},
    {SPEC, 'd', "draft", NULL, "DRAFT", &vly_option_text, AT(draft), 0, 0,
     "file or name of the draft, or 'none' (without -m that of the shipped pair)"},
    {SPEC, 0, "prompts", NULL, "FILE", &vly_option_text, AT(prompts), 0, 0,
     "JSON lines of {\"category\": \"...\", \"turns\": [\"...\", ...]} (spec_bench.jsonl where "
     "the model has a chat template, else stories.jsonl; both ship in bench/prompts)"},
    {SPEC, 0, "limit", NULL, "N", &vly_option_count, AT(limit), 0, 1u << 20,
     "prompts to take, spread over the set; 0: all"},
    {SPEC, 0, "seeds", NULL, "N", &vly_option_count, AT(n_seeds), 1, 1000,
     "texts of each prompt above temperature 0"},
    {SPEC, 0, "temp", NULL, "T,...", &vly_bench_reals_type, AT(temperatures), 0, 100,
     "temperatures (0,0.7,1)"},
    {SPEC, 'k', "draft-max", NULL, "K,...", &drafts_type, AT(sizes), 0, VLY_MAX_DRAFT,
     "drafted tokens of a block, 'auto' among them leaving it to the governor "
     "(0,1,2,3,4,6,8,auto)"},
    {SPEC, 0, "methods", NULL, "NAME,...", &methods_type, AT(methods), 0, 0, method_help},
    {SPEC, 0, "compare-rules", NULL, NULL, &vly_option_flag, AT(compare_rules), 0, 0,
     "also how often a first drafted token would be accepted under the keyed noise, by "
     "rejection sampling, and with a greedy draft, all from the same logits (slow)"},
    {SPEC, 0, "chat-template", NULL, "NAME|FILE", &vly_option_text, AT(chat_template), 0, 0,
     "spell conversations so and not as the model file says"},
    {SPEC, 'c', "ctx", NULL, "N", &vly_option_count, AT(n_ctx), 0, VLY_BENCH_MAX_CTX,
     "tokens of prompt and text at most; 0: the target's own number"},
    {BLOCK | LOAD, 'd', "draft", NULL, "DRAFT", &vly_option_text, AT(draft), 0, 0,
     "file or name of the draft"},
    {BLOCK | LOAD | SPEC, 0, "synthetic-draft", NULL, "SHAPE:FORMAT", &vly_bench_synthetic_type,
     AT(synthetic[1]), 0, 0, "in its place random weights"},
    {DECODE, 0, "contexts", NULL, "N,...", &vly_bench_list_type, AT(contexts), 0, VLY_BENCH_MAX_CTX,
     "tokens before those that are decoded (0,128,512,2048,8192, as far as the model goes)"},
    {VERIFY, 0, "sizes", NULL, "N,...", &vly_bench_list_type, AT(sizes), 1, VLY_MAX_BATCH,
     "tokens of a pass (1,2,3,4,5,6,8,12,16)"},
    {PREFILL, 0, "sizes", NULL, "N,...", &vly_bench_list_type, AT(sizes), 1, VLY_BENCH_MAX_CTX,
     "tokens of a prompt (64,128,256,512,1024,2048, as far as the model goes)"},
    {BLOCK, 'k', "draft-max", NULL, "K,...", &vly_bench_list_type, AT(sizes), 1, VLY_MAX_DRAFT,
     "drafted tokens of a block (1,2,3,4,5,6,8,10,12,16)"},
    {BLOCK | SPEC, 0, "synthetic-accept", NULL, "L", &real_type, AT(accept), 1, VLY_MAX_DRAFT + 1,
     "a mean accepted length to pretend, in place of what is really accepted"},
    {KERNEL, 'b', "batch", NULL, "N,...", &vly_bench_list_type, AT(sizes), 1, VLY_MAX_BATCH,
     "tokens of a step (1,8)"},
    {VERIFY | BLOCK | KERNEL, 'c', "ctx", NULL, "N", &vly_option_count, AT(n_ctx), 0,
     VLY_BENCH_MAX_CTX, "tokens before those that are measured"},
    {DECODE | BLOCK | SPEC, 'n', "tokens", NULL, "N", &vly_option_count, AT(n_tokens), 2, 1u << 20,
     "tokens of one measurement"},
    {PASSES, 'r', "repeat", NULL, "N", &vly_option_count, AT(n_repeat), 1, 10000,
     "measurements of each figure"},
    {DECODE | VERIFY | PREFILL, 0, "profile", NULL, NULL, &vly_option_flag, AT(profile), 0, 0,
     "the time of each step of a pass too"},
    {SPEC, 0, "kv", NULL, "int8,f16", &kvs_type, AT(kvs), 0, 0,
     "how the caches store keys and values: one or both (int8)"},
    {SPEC, 0, "html", NULL, "FILE", &vly_option_text, AT(html), 0, 0,
     "write a page with charts, which needs nothing from elsewhere"},
    {PASSES, 0, "kv", NULL, "int8|f16", &vly_cli_kv_type, AT(kv_f16), 0, 0,
     "how the cache stores keys and values (int8)"},
    {ALL, 0, "arch", NULL, "FILE", &vly_option_text, AT(arch), 0, 0, VLY_HELP_ARCH},
    {ALL, 0, "device", NULL, "D", &vly_option_text, AT(device), 0, 0, VLY_HELP_DEVICE},
    {ALL, 0, "csv", NULL, "FILE", &vly_option_text, AT(csv), 0, 0,
     "write CSV; to '-', standard output, in place of the tables"},
    {ALL, 0, "json", NULL, "FILE", &vly_option_text, AT(json), 0, 0, "the same as JSON"},
    {ALL, 'h', "help", NULL, NULL, &vly_option_help, 0, 0, 0, "show this help"},
};

static int set_defaults(vly_bench_kind bench, vly_bench_options *o)
{
    static const uint32_t contexts[] = {0, 128, 512, 2048, 8192};
    static const uint32_t verify[] = {1, 2, 3, 4, 5, 6, 8, 12, 16};
    static const uint32_t prefill[] = {64, 128, 256, 512, 1024, 2048};
    static const uint32_t block[] = {1, 2, 3, 4, 5, 6, 8, 10, 12, 16};
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

static int parse(vly_bench_kind bench, const char *summary, int argc, char **argv,
                 vly_bench_options *o)
{
    char name[32], intro[256], outro[256];
    snprintf(name, sizeof name, "bench %s", argv[0]);
    snprintf(intro, sizeof intro, "usage: volley %s %s[OPTION...]\n\nMeasures %s.\n\n", name,
             bench == SPEC ? "" : "(-m MODEL | --synthetic SHAPE:FORMAT) ", summary);
    snprintf(
        outro, sizeof outro, "%s\nExit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n",
        bench == SPEC ? "\nCtrl-C or SIGTERM ends it, and tells of the prompts until then.\n" : "");
    if (set_defaults(bench, o)) return vly_cli_usage_error(name, "no memory for its options");
    const vly_bench_options defaults = *o;
    const vly_option_table table = {.rows = rows,
                                    .n_rows = sizeof rows / sizeof *rows,
                                    .command = bench,
                                    .intro = intro,
                                    .outro = bench == SPEC || bench == LOAD ? outro : NULL,
                                    .default_values = &defaults};
    char *const own_name = argv[0];
    argv[0] = name; /* in messages */
    int status = vly_option_table_parse(&table, argc, argv, o);
    argv[0] = own_name;
    if (!status) status = vly_bench_choose_model(name, 'm', &o->target, o->synthetic[0]);
    if (!status) status = vly_bench_choose_model(name, 'd', &o->draft, o->synthetic[1]);
    if (status) return status;
    if (!o->target && bench != SPEC)
        return vly_cli_usage_error(name,
                                   "a model is missing: give -m MODEL or --synthetic SHAPE:FORMAT");
    if (!o->draft && bench == BLOCK)
        return vly_cli_usage_error(
            name, "a draft is missing: give -d DRAFT or --synthetic-draft SHAPE:FORMAT");
    return 0;
}

static void deinit(vly_bench_options *o)
{
    vly_ids_free(&o->contexts);
    vly_ids_free(&o->sizes);
    vly_ids_free(&o->methods);
    vly_ids_free(&o->kvs);
}

int vly_bench_end(int rc, const vly_report *report, const char *csv, const char *json,
                  vly_error *err)
{
    int status = 0;
    if (rc == VLY_E_CANCELLED) {
        fprintf(stderr, "volley: %s\n", err->message);
        status = VLY_CLI_INTERRUPTED;
        rc = vly_report_has_rows(report) ? vly_report_write(report, csv, json, err) : 0;
    } else if (rc == 0) {
        rc = vly_report_write(report, csv, json, err);
        if (rc == 0 && !vly_report_has_rows(report))
            rc = vly_fail(err, VLY_E_CONTEXT, "nothing was measured: the notes tell why");
    }
    return rc ? vly_cli_fail(err) : status;
}

int vly_bench_main(vly_bench_kind bench, const char *summary, vly_bench_fn *measure, int argc,
                   char **argv)
{
    vly_bench_options o = {0};
    vly_error err;
    int status = parse(bench, summary, argc, argv, &o);
    if (status == 0) {
        vly_report *report = vly_report_create(argv[0]);
        int rc = report ? 0 : vly_fail(&err, VLY_E_HOST_MEMORY, "no memory for a report");
        const char *const paths[] = {o.csv, o.json, o.html};
        for (int i = 0; rc == 0 && i < 3; i++) rc = vly_report_check_path(paths[i], &err);
        if (rc == 0) rc = measure(&o, report, &err);
        status = vly_bench_end(rc, report, o.csv, o.json, &err);
        vly_report_destroy(report);
    }
    deinit(&o);
    return status < 0 ? 0 : status;
}
