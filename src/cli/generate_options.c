#include "cli/generate_options.h"

#include "base/log.h"
#include "cli/cli.h"

#include <float.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN       VLY_CLI_RUN
#define GENERATE  (VLY_CLI_RUN | VLY_CLI_VERIFY)
#define VERIFY    VLY_CLI_VERIFY
#define LOGITS    VLY_CLI_LOGITS
#define ALL       (GENERATE | LOGITS)
#define MAX_COUNT 4294967294.0 /* UINT32_MAX stands for no limit */

/* What a value is, and the type of its field in vly_cli_options. */
typedef enum {
    TEXT,      /* const char * */
    FLAG,      /* bool, takes no value */
    VERBOSITY, /* uint32_t, counts how often */
    COUNT,     /* uint32_t in min..max */
    LIMIT,     /* the same, or -1: UINT32_MAX */
    REAL,      /* float in min..max */
    SEED,      /* uint64_t; sets has_seed */
    KV,        /* bool kv_f16 */
    METHOD,    /* vly_draft_method */
    IDS,       /* vly_ids */
    BIAS,      /* an entry more of sampling.bias */
    HELP
} kind;

typedef struct {
    unsigned commands;
    char letter; /* 0: none */
    const char *name, *alias;
    const char *value; /* what help calls it; NULL: takes none */
    kind kind;
    size_t offset; /* of the field */
    double min, max;
    const char *help;
} option_row;

#define AT(field) offsetof(vly_cli_options, field)

#define VLY_DRAFT_METHOD(id, name, create, needs_model, summary) "|" name
static const char method_names[] =
#include "drafts/methods.def"
    ;
#undef VLY_DRAFT_METHOD
#define VLY_DRAFT_METHOD(id, name, create, needs_model, summary) name ": " summary "; "
static const char method_help[] = "what is drafted. "
#include "drafts/methods.def"
                                  "by default model, where there is a draft";
#undef VLY_DRAFT_METHOD

static const option_row rows[] = {
    {GENERATE, 'm', "model", NULL, "TARGET", TEXT, AT(target), 0, 0,
     "GGUF file of the target, whose text it is (that of the shipped pair)"},
    {LOGITS, 'm', "model", NULL, "MODEL", TEXT, AT(target), 0, 0, "GGUF file of the model"},
    {GENERATE, 'd', "draft", NULL, "DRAFT", TEXT, AT(draft), 0, 0,
     "GGUF file of the draft, or 'none' (that of the shipped pair; none where -m is given)"},
    {GENERATE, 'p', "prompt", NULL, "TEXT", TEXT, AT(text), 0, 0, "the text to go on from"},
    {LOGITS, 'p', "prompt", NULL, "TEXT", TEXT, AT(text), 0, 0, "the text"},
    {ALL, 'f', "file", NULL, "FILE", TEXT, AT(file), 0, 0,
     "read that text from FILE, '-' being standard input, less one newline at its end"},
    {LOGITS, 0, "ids", NULL, "ID,...", IDS, AT(ids), 0, MAX_COUNT,
     "these tokens in place of a text, nothing put in front"},
    {ALL, 0, "parse-special", NULL, NULL, FLAG, AT(parse_special), 0, 0,
     "text that spells a control token (\"</s>\") becomes that token"},
    {RUN, 0, "echo", NULL, NULL, FLAG, AT(echo), 0, 0, "print the prompt before the text"},
    {GENERATE, 'n', "n-predict", "max-tokens", "N", LIMIT, AT(max_tokens), 0, MAX_COUNT,
     "tokens to write at most; -1: until the text or the context ends"},
    {GENERATE, 0, "ignore-eos", NULL, NULL, FLAG, AT(ignore_end), 0, 0,
     "go on past the model's end of text"},
    {ALL, 'c', "ctx", "ctx-size", "N", COUNT, AT(n_ctx), 0, MAX_COUNT,
     "tokens of prompt and text at most; 0: the target's own number, or as many as fit the device"},
    {GENERATE, 0, "temp", "temperature", "T", REAL, AT(sampling.temperature), 0, 100,
     "temperature; at 0 always the likeliest token"},
    {GENERATE, 0, "top-k", NULL, "K", COUNT, AT(sampling.top_k), 0, MAX_COUNT,
     "choose among the K likeliest tokens; 0: off"},
    {GENERATE, 0, "top-p", NULL, "P", REAL, AT(sampling.top_p), FLT_MIN, 1,
     "choose among the likeliest tokens that together have probability P; 1: off"},
    {GENERATE, 0, "min-p", NULL, "P", REAL, AT(sampling.min_p), 0, 1,
     "choose among tokens at least P times as probable as the likeliest; 0: off"},
    {GENERATE, 0, "repeat-penalty", NULL, "R", REAL, AT(sampling.repeat_penalty), FLT_MIN, 100,
     "divide positive logits of recent tokens by R, multiply negative ones; 1: off"},
    {GENERATE, 0, "presence-penalty", NULL, "P", REAL, AT(sampling.presence_penalty), -100, 100,
     "subtract P from the logits of recent tokens; 0: off"},
    {GENERATE, 0, "frequency-penalty", NULL, "F", REAL, AT(sampling.frequency_penalty), -100, 100,
     "subtract F for each time that a recent token occurs; 0: off"},
    {GENERATE, 0, "repeat-last-n", NULL, "N", LIMIT, AT(sampling.penalty_last_n), 0, MAX_COUNT,
     "how many tokens count as recent for these penalties; -1: all"},
    {GENERATE, 0, "logit-bias", NULL, "ID:BIAS", BIAS, 0, -1e6, 1e6,
     "add BIAS to the logit of token ID; '-inf' bans it; may be given again"},
    {RUN, 's', "seed", NULL, "S", SEED, AT(sampling.seed), 0, 0,
     "the same seed gives the same text with any draft, or none (random, and reported)"},
    {VERIFY, 's', "seed", NULL, "S", SEED, AT(sampling.seed), 0, 0,
     "the first seed; the others count up from it (random, and reported)"},
    {VERIFY, 0, "seeds", NULL, "N", COUNT, AT(n_seeds), 1, 1000000, "how many seeds to try"},
    {RUN, 0, "draft-max", NULL, "K", COUNT, AT(draft_max), 0, VLY_MAX_DRAFT,
     "tokens that the draft proposes at a time; 0: decode plainly"},
    {VERIFY, 0, "draft-max", NULL, "K", COUNT, AT(draft_max), 1, VLY_MAX_DRAFT,
     "tokens that the draft proposes at a time"},
    {GENERATE, 0, "draft-method", NULL, method_names + 1, METHOD, AT(draft_method), 0, 0,
     method_help},
    {LOGITS, 0, "top", NULL, "N", COUNT, AT(n_top), 1, 1000, "how many of the best logits"},
    {ALL, 0, "kv", NULL, "int8|f16", KV, AT(kv_f16), 0, 0,
     "how the caches store keys and values (int8)"},
    {ALL, 0, "device", NULL, "D", TEXT, AT(device), 0, 0,
     "Vulkan device: a number or part of a name of 'volley devices' (the best one)"},
    {GENERATE, 0, "json", NULL, NULL, FLAG, AT(json), 0, 0,
     "print one JSON object and nothing else on standard output"},
    {RUN, 0, "stats", NULL, NULL, FLAG, AT(stats), 0, 0,
     "print all statistics on standard error, as a table"},
    {ALL, 'v', "verbose", NULL, NULL, VERBOSITY, AT(verbosity), 0, 0,
     "say on standard error what is being done; twice: in detail"},
    {ALL, 'h', "help", NULL, NULL, HELP, 0, 0, 0, "show this help"},
};
#define N_ROWS (sizeof rows / sizeof *rows)

static const struct {
    vly_cli_generator command;
    const char *text;
} intros[] = {
    {VLY_CLI_RUN,
     "usage: volley run [OPTION...]\n\n"
     "Writes text that goes on from a prompt, which is standard input without -p and\n"
     "-f, less one newline at its end. The text goes to standard output as it is\n"
     "decided, a line of statistics to standard error.\n\n"
     "Without -m and -d the shipped pair is used, from the first of these that has it:\n"
     "  " VLY_DATADIR "/models\n"
     "  ../share/volley/models and ../../models, as seen from the program's folder\n\n"
     "Ctrl-C ends the text, prints the statistics and exits 130; twice ends at once.\n\n"},
    {VLY_CLI_VERIFY,
     "usage: volley verify [OPTION...]\n\n"
     "Writes the same text with the draft and without it, compares the tokens, and\n"
     "prints both speeds. Where they are not identical, exits 1 and shows the first\n"
     "difference. The prompt is standard input without -p and -f; the models are\n"
     "chosen as by 'volley run'.\n\n"},
    {VLY_CLI_LOGITS,
     "usage: volley logits -m MODEL [-p TEXT | -f FILE | --ids ID,...] [OPTION...]\n\n"
     "Prints one JSON line for each position of a text, which is standard input\n"
     "without -p, -f and --ids: {\"pos\",\"id\",\"top\":[[id,logit],...],\"lse\",\"mean\"}.\n"
     "id is the token at that position, top the best logits of the token after it,\n"
     "lse the logarithm of the sum of all logits' exponentials, mean their mean.\n\n"},
};

static vly_cli_options defaults(void)
{
    vly_cli_options o = {.max_tokens = UINT32_MAX,
                         .sampling = vly_sampling_default(),
                         .draft_max = 4,
                         .n_seeds = 1,
                         .n_top = 8};
    o.sampling.penalty_last_n = 64;
    return o;
}

/* ---- help ---- */

/* "0 to 100", "above 0 and at most 1". */
static void format_range(const option_row *row, char *text, size_t n)
{
    if (row->min == (double)FLT_MIN)
        snprintf(text, n, "above 0 and at most %.10g", row->max);
    else
        snprintf(text, n, "%.10g to %.10g", row->min, row->max);
}

/* " (0 to 100, default 0.7)", without what says nothing to people. */
static void format_limits(const option_row *row, char *text, size_t n)
{
    const vly_cli_options o = defaults();
    const void *field = (const char *)&o + row->offset;
    char range[64] = "", value[32] = "";
    if (row->max > row->min && row->max < MAX_COUNT) format_range(row, range, sizeof range);
    if (row->kind == REAL)
        snprintf(value, sizeof value, "default %g", (double)*(const float *)field);
    else if (row->kind == COUNT || row->kind == LIMIT)
        snprintf(value, sizeof value, "default %" PRId32, *(const int32_t *)field);
    text[0] = '\0';
    if (range[0] || value[0])
        snprintf(text, n, " (%s%s%s)", range, range[0] && value[0] ? ", " : "", value);
}

/* Prints `text` beside what took `column` columns, or below it, broken between words. */
static void print_wrapped(int column, const char *text)
{
    enum { INDENT = 27, WIDTH = 80 };
    if (column + 2 > INDENT) {
        putchar('\n');
        column = 0;
    }
    column += printf("%*s", INDENT - column, "");
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (column + 1 + n > WIDTH) column = printf("\n%*s", INDENT, "") - 1;
        column += printf("%s%.*s", column > INDENT ? " " : "", n, text);
        text += n;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_help(vly_cli_generator command)
{
    for (size_t i = 0; i < sizeof intros / sizeof *intros; i++)
        if (intros[i].command == command) fputs(intros[i].text, stdout);
    printf("Options:\n");
    for (const option_row *row = rows; row < rows + N_ROWS; row++) {
        if (!(row->commands & command)) continue;
        char text[512], limits[128], letter[] = "    ";
        if (row->letter) memcpy(letter, (char[]){'-', row->letter, ',', ' '}, 4);
        int column = printf("  %s--%s%s%s%s%s", letter, row->name, row->alias ? ", --" : "",
                            row->alias ? row->alias : "", row->value ? " " : "",
                            row->value ? row->value : "");
        format_limits(row, limits, sizeof limits);
        snprintf(text, sizeof text, "%s%s", row->help, limits);
        print_wrapped(column, text);
    }
    printf("\nExit status: 0 done, 1 failed%s, 2 wrong usage%s.\n",
           command == VLY_CLI_VERIFY ? " or not identical" : "",
           command == VLY_CLI_LOGITS ? "" : ", 130 interrupted");
}

/* ---- values ---- */

/* "1,2,3"; 0 or -1. */
static int parse_ids(const char *text, vly_ids *ids)
{
    ids->len = 0;
    for (;;) {
        char number[16];
        uint64_t id;
        size_t n = strcspn(text, ",");
        if (n >= sizeof number) return -1;
        memcpy(number, text, n);
        number[n] = '\0';
        if (vly_cli_parse_u64(number, 0, (uint64_t)MAX_COUNT, &id)) return -1;
        if (vly_ids_push(ids, (uint32_t)id)) return -1;
        if (text[n] == '\0') return 0;
        text += n + 1;
    }
}

/* "ID:BIAS"; 0 or -1. */
static int parse_bias(const option_row *row, const char *text, vly_sampling *sampling)
{
    char number[16];
    size_t n = strcspn(text, ":");
    if (n >= sizeof number || text[n] == '\0') return -1;
    memcpy(number, text, n);
    number[n] = '\0';
    uint64_t id;
    double bias;
    if (vly_cli_parse_u64(number, 0, (uint64_t)MAX_COUNT, &id)) return -1;
    if (strcmp(text + n + 1, "-inf") == 0)
        bias = -INFINITY;
    else if (vly_cli_parse_double(text + n + 1, row->min, row->max, &bias))
        return -1;
    vly_logit_bias *all = realloc((void *)sampling->bias, (sampling->n_bias + 1) * sizeof *all);
    if (!all) return -1;
    all[sampling->n_bias++] = (vly_logit_bias){.id = (uint32_t)id, .bias = (float)bias};
    sampling->bias = all;
    return 0;
}

static int parse_method(const char *text, vly_draft_method *method)
{
    for (int i = 0; i < VLY_N_DRAFT_METHODS; i++) {
        const char *name = vly_draft_method_name(i);
        if (!name || strcmp(name, text) != 0) continue;
        *method = i;
        return 0;
    }
    return -1;
}

/* Stores the value of the option; 0 or -1. */
static int parse_value(const option_row *row, const char *text, vly_cli_options *o)
{
    void *field = (char *)o + row->offset;
    uint64_t count;
    double real;
    switch (row->kind) {
    case TEXT:
        *(const char **)field = text;
        return 0;
    case FLAG:
        *(bool *)field = true;
        return 0;
    case VERBOSITY:
        ++*(uint32_t *)field;
        return 0;
    case LIMIT:
        if (strcmp(text, "-1") == 0) {
            *(uint32_t *)field = UINT32_MAX;
            return 0;
        }
        /* fall through */
    case COUNT:
        if (vly_cli_parse_u64(text, (uint64_t)row->min, (uint64_t)row->max, &count)) return -1;
        *(uint32_t *)field = (uint32_t)count;
        return 0;
    case REAL:
        /* In single precision a tiny number above 0 may be 0. */
        if (vly_cli_parse_double(text, row->min, row->max, &real)) return -1;
        *(float *)field = (float)real;
        return 0;
    case SEED:
        o->has_seed = true;
        return vly_cli_parse_u64(text, 0, UINT64_MAX, field);
    case KV:
        if (strcmp(text, "int8") != 0 && strcmp(text, "f16") != 0) return -1;
        *(bool *)field = text[0] == 'f';
        return 0;
    case METHOD:
        return parse_method(text, field);
    case IDS:
        return parse_ids(text, field);
    case BIAS:
        return parse_bias(row, text, &o->sampling);
    case HELP:
        break;
    }
    return -1;
}

static int value_error(const char *command, const option_row *row, const char *text)
{
    char expected[128], range[64];
    format_range(row, range, sizeof range);
    switch (row->kind) {
    case COUNT:
        snprintf(expected, sizeof expected, "a whole number, %s", range);
        break;
    case LIMIT:
        snprintf(expected, sizeof expected, "a whole number, %s, or -1", range);
        break;
    case REAL:
        snprintf(expected, sizeof expected, "a number, %s", range);
        break;
    case SEED:
        snprintf(expected, sizeof expected, "a whole number, 0 to %" PRIu64, UINT64_MAX);
        break;
    case KV:
        snprintf(expected, sizeof expected, "int8 or f16");
        break;
    case METHOD:
        snprintf(expected, sizeof expected, "%s", row->value);
        break;
    case IDS:
        snprintf(expected, sizeof expected, "whole numbers, %s, with commas between", range);
        break;
    default:
        snprintf(expected, sizeof expected, "ID:BIAS with a BIAS of %s, or -inf", range);
    }
    return vly_cli_usage_error(command, "option '--%s': expected %s, got '%s'", row->name, expected,
                               text);
}

/* ---- the command line ---- */

/* What getopt_long is to know of the rows of `command`: a long option's value is 256 + its row. */
static void make_getopt_tables(vly_cli_generator command, struct option *longs, char *shorts)
{
    *shorts++ = ':';
    for (size_t i = 0; i < N_ROWS; i++) {
        if (!(rows[i].commands & command)) continue;
        int has_value = rows[i].value ? required_argument : no_argument;
        *longs++ = (struct option){rows[i].name, has_value, NULL, 256 + (int)i};
        if (rows[i].alias) *longs++ = (struct option){rows[i].alias, has_value, NULL, 256 + (int)i};
        if (rows[i].letter) *shorts++ = rows[i].letter;
        if (rows[i].letter && rows[i].value) *shorts++ = ':';
    }
    *longs = (struct option){0};
    *shorts = '\0';
}

static const option_row *find_row(vly_cli_generator command, int got)
{
    if (got >= 256) return &rows[got - 256];
    for (size_t i = 0; i < N_ROWS; i++)
        if ((rows[i].commands & command) && rows[i].letter == got) return &rows[i];
    return NULL;
}

/* Do the draft and the way to draft go together, and is there something for verify to compare? */
static int check_draft(vly_cli_generator command, const char *name, const vly_cli_options *o)
{
    const char *method = vly_draft_method_name(o->draft_method);
    bool none = o->draft && strcmp(o->draft, "none") == 0;
    if (method && !vly_draft_method_needs_model(o->draft_method)) {
        if (o->draft && !none)
            return vly_cli_usage_error(name, "'--draft-method %s' uses no draft, got '-d %s'",
                                       method, o->draft);
        return 0;
    }
    if (!method && command != VLY_CLI_VERIFY) return 0;
    if (none && method)
        return vly_cli_usage_error(name, "'--draft-method %s' needs a draft, got '-d none'",
                                   method);
    if (none) return vly_cli_usage_error(name, "expected a draft to compare with, got '-d none'");
    if (o->target && !o->draft)
        return vly_cli_usage_error(name, "option '-m' needs a draft besides: '-d' is missing");
    return 0;
}

/* What no single option shows to be wrong. */
static int check(vly_cli_generator command, const char *name, const vly_cli_options *o)
{
    if ((o->text != NULL) + (o->file != NULL) + (o->ids.len > 0) > 1)
        return vly_cli_usage_error(name, "expected one of %s, found more",
                                   command == VLY_CLI_LOGITS ? "-p, -f and --ids" : "-p and -f");
    if (command == VLY_CLI_LOGITS && !o->target)
        return vly_cli_usage_error(name, "option '-m' is missing");
    int rc = check_draft(command, name, o);
    if (rc) return rc;
    if (o->echo && o->json) return vly_cli_usage_error(name, "expected --echo or --json, not both");
    return 0;
}

int vly_cli_options_parse(vly_cli_generator command, int argc, char **argv, vly_cli_options *o)
{
    struct option longs[2 * N_ROWS + 1];
    char shorts[2 * N_ROWS + 2];
    make_getopt_tables(command, longs, shorts);
    *o = defaults();
    opterr = 0;
    for (int got; (got = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        const option_row *row = find_row(command, got);
        if (!row) return vly_cli_option_error(argv[0], got, argv);
        if (row->kind == HELP) {
            print_help(command);
            return -1;
        }
        if (parse_value(row, optarg, o)) return value_error(argv[0], row, optarg);
    }
    if (optind < argc)
        return vly_cli_usage_error(argv[0], "unexpected argument '%s'", argv[optind]);
    vly_log_configure(o->verbosity == 0   ? VLY_LOG_WARN
                      : o->verbosity == 1 ? VLY_LOG_INFO
                                          : VLY_LOG_DEBUG,
                      false);
    return check(command, argv[0], o);
}

void vly_cli_options_deinit(vly_cli_options *o)
{
    vly_ids_free(&o->ids);
    free((void *)o->sampling.bias);
    o->sampling.bias = NULL;
}

vly_request vly_cli_options_request(const vly_cli_options *o)
{
    return (vly_request){.parse_special = o->parse_special,
                         .max_tokens = o->max_tokens,
                         .ignore_end = o->ignore_end,
                         .sampling = o->sampling,
                         .draft_method = o->draft_method,
                         .draft_max = o->draft_max};
}
