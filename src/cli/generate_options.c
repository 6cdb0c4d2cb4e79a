#include "cli/generate_options.h"

#include "base/log.h"
#include "cli/cli.h"
#include "cli/option_table.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define RUN       VLY_CLI_RUN
#define GENERATE  (VLY_CLI_RUN | VLY_CLI_VERIFY)
#define VERIFY    VLY_CLI_VERIFY
#define LOGITS    VLY_CLI_LOGITS
#define CHAT      VLY_CLI_CHAT
#define PERPLEX   VLY_CLI_PERPLEXITY
#define WRITE     (GENERATE | CHAT)
#define MEASURE   (LOGITS | PERPLEX)
#define ALL       (WRITE | MEASURE)
#define MAX_COUNT VLY_OPTION_MAX_COUNT

/* ---- values ---- */

/* "ID:BIAS"; 0 or -1. */
static int parse_bias(const vly_option_row *row, const char *text, void *options)
{
    vly_sampling *sampling = &((vly_cli_options *)options)->sampling;
    char number[VLY_OPTION_WORD_BYTES];
    uint64_t id;
    double bias;
    if (vly_option_word(&text, ':', number) || !text ||
        vly_cli_parse_u64(number, 0, (uint64_t)MAX_COUNT, &id))
        return -1;
    if (strcmp(text, "-inf") == 0)
        bias = -INFINITY;
    else if (vly_cli_parse_double(text, row->min, row->max, &bias))
        return -1;
    vly_logit_bias *all = realloc((void *)sampling->bias, (sampling->n_bias + 1) * sizeof *all);
    if (!all) return -1;
    all[sampling->n_bias++] = (vly_logit_bias){.id = (uint32_t)id, .bias = (float)bias};
    sampling->bias = all;
    return 0;
}

static int parse_method(const vly_option_row *row, const char *text, void *options)
{
    for (int i = 0; i < VLY_N_DRAFT_METHODS; i++) {
        const char *name = vly_draft_method_name(i);
        if (!name || strcmp(name, text) != 0) continue;
        *(vly_draft_method *)vly_option_field(row, options) = i;
        return 0;
    }
    return -1;
}

/* A count without a default of its own: that is up to the method. */
static int parse_draft_max(const vly_option_row *row, const char *text, void *options)
{
    return vly_option_count.parse(row, text, options);
}

static int parse_seed(const vly_option_row *row, const char *text, void *options)
{
    vly_cli_options *o = options;
    (void)row;
    o->has_seed = true;
    return vly_cli_parse_u64(text, 0, UINT64_MAX, &o->sampling.seed);
}

static int parse_kv(const vly_option_row *row, const char *text, void *options)
{
    if (strcmp(text, "int8") != 0 && strcmp(text, "f16") != 0) return -1;
    *(bool *)vly_option_field(row, options) = text[0] == 'f';
    return 0;
}

/* ---- the options ---- */

#define AT(field) offsetof(vly_cli_options, field)

#define DRAFT_MAX_HELP                                                                             \
    "tokens that are drafted at a time: always K, by default 4, with ngram 8; "                    \
    "with auto at most K, by default " VLY_HELP_NUMBER(VLY_MAX_DRAFT)
#define VLY_DRAFT_METHOD(id, name, ...) "|" name
static const char method_names[] =
#include "drafts/methods.def"
    ;
#undef VLY_DRAFT_METHOD
#define VLY_DRAFT_METHOD(id, name, create, model_use, default_max, summary) name ": " summary "; "
static const char method_help[] = "what is drafted. "
#include "drafts/methods.def"
                                  "by default auto, for verify model";
#undef VLY_DRAFT_METHOD

static const vly_option_type bias_type = {
    .parse = parse_bias, .expected = "ID:BIAS with a number", .or_else = "-inf", .ranged = true};
static const vly_option_type seed_type = {.parse = parse_seed,
                                          .expected = "a whole number, 0 to 18446744073709551615"};
const vly_option_type vly_cli_method_type = {.parse = parse_method, .expected = method_names + 1};
const vly_option_type vly_cli_kv_type = {.parse = parse_kv, .expected = "int8 or f16"};
const vly_option_type vly_cli_draft_max_type = {
    .parse = parse_draft_max, .expected = "a whole number", .ranged = true};

static const vly_option_row rows[] = {
    {WRITE, 'm', "model", NULL, "TARGET", &vly_option_text, AT(target), 0, 0, VLY_HELP_TARGET},
    {LOGITS, 'm', "model", NULL, "MODEL", &vly_option_text, AT(target), 0, 0,
     "file or name of the model"},
    {PERPLEX, 'm', "model", NULL, "MODEL", &vly_option_text, AT(target), 0, 0,
     "file or name of the model (the target of the shipped pair)"},
    {WRITE, 'd', "draft", NULL, "DRAFT", &vly_option_text, AT(draft), 0, 0, VLY_HELP_DRAFT},
    {GENERATE, 'p', "prompt", NULL, "TEXT", &vly_option_text, AT(text), 0, 0,
     "the text to go on from"},
    {MEASURE, 'p', "prompt", NULL, "TEXT", &vly_option_text, AT(text), 0, 0, "the text"},
    {GENERATE | MEASURE, 'f', "file", NULL, "FILE", &vly_option_text, AT(file), 0, 0,
     VLY_HELP_FILE},
    {LOGITS, 0, "ids", NULL, "ID,...", &vly_option_list, AT(ids), 0, MAX_COUNT,
     "these tokens in place of a text, nothing put in front"},
    {GENERATE | MEASURE, 0, "parse-special", NULL, NULL, &vly_option_flag, AT(parse_special), 0, 0,
     VLY_HELP_PARSE_SPECIAL},
    {GENERATE, 0, "chat", NULL, NULL, &vly_option_flag, AT(chat), 0, 0,
     "take the prompt as a user's message and write the answer, as the model's chat template "
     "spells conversations"},
    {WRITE, 0, "system", NULL, "TEXT", &vly_option_text, AT(system), 0, 0,
     "a system message in front of the user's"},
    {WRITE, 0, "chat-template", NULL, "NAME|FILE", &vly_option_text, AT(chat_template), 0, 0,
     VLY_HELP_TEMPLATE},
    {RUN, 0, "echo", NULL, NULL, &vly_option_flag, AT(echo), 0, 0,
     "print the prompt before the text"},
    {WRITE, 'n', "n-predict", "max-tokens", "N", &vly_option_limit, AT(max_tokens), 0, MAX_COUNT,
     "tokens to write at most; -1: until the text or the context ends"},
    {GENERATE, 0, "ignore-eos", NULL, NULL, &vly_option_flag, AT(ignore_end), 0, 0,
     "go on past the model's end of text"},
    {WRITE | LOGITS, 'c', "ctx", "ctx-size", "N", &vly_option_count, AT(n_ctx), 0, MAX_COUNT,
     "tokens of prompt and text at most; 0: the target's own number, or as many as fit the device"},
    {PERPLEX, 'c', "ctx", "ctx-size", "N", &vly_option_count, AT(n_ctx), 2, MAX_COUNT,
     "tokens of a window; 0: 512, or the model's context where that is less"},
    {PERPLEX, 0, "stride", NULL, "S", &vly_option_count, AT(stride), 0, MAX_COUNT,
     "begin a window every S tokens and count the last S of each; 0: windows side by side, of "
     "which the second halves count"},
    {WRITE, 0, "temp", "temperature", "T", &vly_option_real, AT(sampling.temperature), 0, 100,
     "temperature; at 0 always the likeliest token"},
    {WRITE, 0, "top-k", NULL, "K", &vly_option_count, AT(sampling.top_k), 0, MAX_COUNT,
     "choose among the K likeliest tokens; 0: off"},
    {WRITE, 0, "top-p", NULL, "P", &vly_option_real, AT(sampling.top_p), FLT_MIN, 1,
     "choose among the likeliest tokens that together have probability P; 1: off"},
    {WRITE, 0, "min-p", NULL, "P", &vly_option_real, AT(sampling.min_p), 0, 1,
     "choose among tokens at least P times as probable as the likeliest; 0: off"},
    {WRITE, 0, "repeat-penalty", NULL, "R", &vly_option_real, AT(sampling.repeat_penalty), FLT_MIN,
     100, "divide positive logits of recent tokens by R, multiply negative ones; 1: off"},
    {WRITE, 0, "presence-penalty", NULL, "P", &vly_option_real, AT(sampling.presence_penalty), -100,
     100, "subtract P from the logits of recent tokens; 0: off"},
    {WRITE, 0, "frequency-penalty", NULL, "F", &vly_option_real, AT(sampling.frequency_penalty),
     -100, 100, "subtract F for each time that a recent token occurs; 0: off"},
    {WRITE, 0, "repeat-last-n", NULL, "N", &vly_option_limit, AT(sampling.penalty_last_n), 0,
     MAX_COUNT, "how many tokens count as recent for these penalties; -1: all"},
    {WRITE, 0, "logit-bias", NULL, "ID:BIAS", &bias_type, 0, -1e6, 1e6,
     "add BIAS to the logit of token ID; '-inf' bans it; may be given again"},
    {RUN | CHAT, 's', "seed", NULL, "S", &seed_type, AT(sampling.seed), 0, 0,
     "the same seed gives the same text with any draft, or none (random, and reported)"},
    {VERIFY, 's', "seed", NULL, "S", &seed_type, AT(sampling.seed), 0, 0,
     "the first seed; the others count up from it (random, and reported)"},
    {VERIFY, 0, "seeds", NULL, "N", &vly_option_count, AT(n_seeds), 1, 1000000,
     "how many seeds to try"},
    {RUN | CHAT, 0, "draft-max", NULL, "K", &vly_cli_draft_max_type, AT(draft_max), 0,
     VLY_MAX_DRAFT, DRAFT_MAX_HELP "; 0: decode plainly"},
    {VERIFY, 0, "draft-max", NULL, "K", &vly_cli_draft_max_type, AT(draft_max), 1, VLY_MAX_DRAFT,
     DRAFT_MAX_HELP},
    {WRITE, 0, "draft-method", NULL, method_names + 1, &vly_cli_method_type, AT(draft_method), 0, 0,
     method_help},
    {LOGITS, 0, "top", NULL, "N", &vly_option_count, AT(n_top), 1, 1000,
     "how many of the best logits"},
    {ALL, 0, "kv", NULL, "int8|f16", &vly_cli_kv_type, AT(kv_f16), 0, 0,
     "how the caches store keys and values (int8)"},
    {ALL, 0, "arch", NULL, "FILE", &vly_option_text, AT(arch), 0, 0, VLY_HELP_ARCH},
    {ALL, 0, "device", NULL, "D", &vly_option_text, AT(device), 0, 0, VLY_HELP_DEVICE},
    {GENERATE | PERPLEX, 0, "json", NULL, NULL, &vly_option_flag, AT(json), 0, 0, VLY_HELP_JSON},
    {RUN, 0, "stats", NULL, NULL, &vly_option_flag, AT(stats), 0, 0,
     "print all statistics on standard error, as a table"},
    {ALL, 'v', "verbose", NULL, NULL, &vly_option_tally, AT(verbosity), 0, 0,
     "say on standard error what is being done; twice: in detail"},
    {ALL, 'h', "help", NULL, NULL, &vly_option_help, 0, 0, 0, "show this help"},
};
#define N_ROWS (sizeof rows / sizeof *rows)

static const struct {
    vly_cli_generator command;
    const char *intro, *outro;
} texts[] = {
    {VLY_CLI_RUN,
     "usage: volley run [OPTION...]\n\n"
     "Writes text that goes on from a prompt, which is standard input without -p and\n"
     "-f, less one newline at its end. The text goes to standard output as it is\n"
     "decided, a line of statistics to standard error.\n\n"
     "Without -m and -d the shipped pair is used, from the first of these that has it:\n"
     "  " VLY_DATADIR "/models\n"
     "  ../share/volley/models and ../../models, as seen from the program's folder\n\n"
     "Ctrl-C ends the text, prints the statistics and exits 130; twice ends at once.\n\n",
     "\nExit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n"},
    {VLY_CLI_CHAT,
     "usage: volley chat [OPTION...]\n\n"
     "A conversation in the terminal: each line is a message, each answer is written\n"
     "as it is decided. A line that ends in '\\' goes on in the next. Lines can be\n"
     "edited and are kept in $XDG_STATE_HOME/volley/history (~/.local/state). Where\n"
     "standard input or output is no terminal, lines are read and answers written\n"
     "without prompts. /help lists the commands of the conversation.\n\n"
     "Ctrl-C ends an answer, which stays in the conversation as far as it came; at the\n"
     "prompt it drops the line, and on an empty line leaves, as Ctrl-D does. The\n"
     "models are chosen as by 'volley run'; the target must be made for conversations.\n\n",
     NULL},
    {VLY_CLI_VERIFY,
     "usage: volley verify [OPTION...]\n\n"
     "Writes the same text with the draft and without it, compares the tokens, and\n"
     "prints both speeds. Where they are not identical, exits 1 and shows the first\n"
     "difference. The prompt is standard input without -p and -f; the models are\n"
     "chosen as by 'volley run'.\n\n",
     "\nExit status: 0 done, 1 failed or not identical, 2 wrong usage, 130 interrupted.\n"},
    {VLY_CLI_LOGITS,
     "usage: volley logits -m MODEL [-p TEXT | -f FILE | --ids ID,...] [OPTION...]\n\n"
     "Prints one JSON line for each position of a text, which is standard input\n"
     "without -p, -f and --ids: {\"pos\",\"id\",\"top\":[[id,logit],...],\"lse\",\"mean\"}.\n"
     "id is the token at that position, top the best logits of the token after it,\n"
     "lse the logarithm of the sum of all logits' exponentials, mean their mean.\n\n",
     NULL},
    {VLY_CLI_PERPLEXITY,
     "usage: volley perplexity [-m MODEL] [-p TEXT | -f FILE] [OPTION...]\n\n"
     "Prints how well the model foretells a text, which is standard input without -p\n"
     "and -f: the exponential of the mean of the counted tokens' negative log\n"
     "probabilities, and its standard error. Progress goes to standard error.\n\n"
     "As by llama-perplexity: of windows side by side each begins with the start token\n"
     "where the vocabulary has one, in place of its first token. (Its --ppl-stride S\n"
     "makes windows of N + S/2 tokens.)\n\n",
     NULL},
};

static vly_cli_options defaults(void)
{
    vly_cli_options o = {.max_tokens = UINT32_MAX,
                         .sampling = vly_sampling_default(),
                         .draft_max = VLY_DRAFT_MAX_DEFAULT,
                         .n_seeds = 1,
                         .n_top = 8};
    o.sampling.penalty_last_n = 64;
    return o;
}

/* ---- the command line ---- */

/* Do the draft and the way to draft go together, and is there something for verify to compare? */
static int check_draft(vly_cli_generator command, const char *name, const vly_cli_options *o)
{
    const char *method = vly_draft_method_name(o->draft_method);
    vly_draft_model_use use = vly_draft_method_model_use(o->draft_method);
    bool none = o->draft && strcmp(o->draft, "none") == 0;
    if (!method && command == VLY_CLI_VERIFY) use = VLY_MODEL_NEEDED;
    if (command == VLY_CLI_VERIFY && o->draft_method == VLY_DRAFT_NONE)
        return vly_cli_usage_error(name, "expected a method to compare with, got 'none'");
    if (use == VLY_MODEL_UNUSED && o->draft && !none)
        return vly_cli_usage_error(name, "'--draft-method %s' uses no draft, got '-d %s'", method,
                                   o->draft);
    if (use != VLY_MODEL_NEEDED || (o->draft ? !none : !o->target)) return 0;
    const char *what = none ? "got '-d none'" : "'-d' is missing beside '-m'";
    if (method)
        return vly_cli_usage_error(name, "'--draft-method %s' needs a draft: %s", method, what);
    return vly_cli_usage_error(name, "expected a draft to compare with: %s", what);
}

/* Fills in what was not said of drafting. verify is to compare texts that were drafted, so it does
 * not leave that to what is fastest. */
static void choose_draft(vly_cli_generator command, vly_cli_options *o)
{
    if (o->draft_method == VLY_DRAFT_DEFAULT && o->draft && strcmp(o->draft, "none") == 0)
        o->draft_method = VLY_DRAFT_NONE;
    if (o->draft_method == VLY_DRAFT_DEFAULT)
        o->draft_method = command == VLY_CLI_VERIFY ? VLY_DRAFT_MODEL : VLY_DRAFT_AUTO;
    if (o->draft_max == VLY_DRAFT_MAX_DEFAULT)
        o->draft_max = vly_draft_method_default_max(o->draft_method);
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
    const vly_cli_options default_values = defaults();
    vly_option_table table = {.rows = rows,
                              .n_rows = N_ROWS,
                              .command = command,
                              .default_values = &default_values,
                              .given = &o->given};
    _Static_assert(N_ROWS <= 64, "a bit for each row");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].command == command) {
            table.intro = texts[i].intro;
            table.outro = texts[i].outro;
        }
    *o = default_values;
    int rc = vly_option_table_parse(&table, argc, argv, o);
    if (rc) return rc;
    vly_log_configure(o->verbosity == 0   ? VLY_LOG_WARN
                      : o->verbosity == 1 ? VLY_LOG_INFO
                                          : VLY_LOG_DEBUG,
                      false);
    o->chat = o->chat || o->system || o->chat_template;
    rc = check(command, argv[0], o);
    choose_draft(command, o);
    return rc;
}

void vly_cli_options_deinit(vly_cli_options *o)
{
    vly_ids_free(&o->ids);
    free((void *)o->sampling.bias);
    o->sampling.bias = NULL;
}

vly_request vly_cli_options_request(const vly_cli_options *o, const vly_engine *engine)
{
    const vly_engine_defaults *recommended = vly_engine_get_defaults(engine);
    vly_cli_options mixed = *o;
    mixed.max_tokens = recommended->max_tokens;
    mixed.sampling = recommended->sampling;
    mixed.sampling.seed = o->sampling.seed;
    mixed.sampling.bias = o->sampling.bias;
    mixed.sampling.n_bias = o->sampling.n_bias;
    for (size_t i = 0; i < N_ROWS; i++)
        if (o->given >> i & 1 && (rows[i].type->whole || rows[i].type->real))
            memcpy((char *)&mixed + rows[i].offset, (const char *)o + rows[i].offset,
                   sizeof(uint32_t)); /* or a float */
    return (vly_request){.parse_special = o->parse_special || o->chat,
                         .max_tokens = mixed.max_tokens,
                         .ignore_end = o->ignore_end,
                         .sampling = mixed.sampling,
                         .draft_method = o->draft_method,
                         .draft_max = o->draft_max,
                         .stop = recommended->stop,
                         .n_stop = recommended->n_stop};
}
