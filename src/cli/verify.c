/* volley verify: is the text the same with the draft and without it? */
#include "cli/best_logits.h"
#include "cli/cli.h"
#include "cli/generate.h"
#include "cli/json_fields.h"
#include "text/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TEXT_ENDED UINT32_MAX /* in place of a token */

/* One seed's two texts. */
typedef struct {
    uint64_t seed;
    vly_cli_generation with, without; /* the draft */
    bool differs;
    size_t n_common;       /* tokens before the first difference */
    vly_cli_logit best[2]; /* the target's two best tokens there */
} comparison;

typedef struct {
    const vly_cli_options *options;
    uint64_t seed; /* the first */
    vly_engine *engine;
    vly_text prompt;
    cJSON *seeds;            /* an array, with --json */
    vly_stats with, without; /* sums over the seeds of what rates are made from */
    uint32_t n_compared, n_different;
    bool interrupted;
} job;

/* ---- comparing ---- */

typedef struct {
    uint32_t pos;
    vly_cli_logit *best; /* [2] */
} best_query;

/* A vly_logits_fn. */
static int take_best(void *arg, uint32_t pos, uint32_t id, const float *logits, uint32_t n_vocab)
{
    (void)id;
    const best_query *query = arg;
    if (pos == query->pos) vly_cli_best_logits(logits, n_vocab, 2, query->best);
    return 0;
}

/* Finds the two best tokens at the first difference. */
static int look_there(vly_engine *engine, comparison *c, vly_error *err)
{
    vly_ids ids = {0};
    int rc = vly_ids_append(&ids, c->with.prompt_ids.data, c->with.prompt_ids.len);
    if (!rc) rc = vly_ids_append(&ids, c->with.tokens.data, c->n_common);
    if (rc) vly_fail(err, rc, "no memory for %zu tokens", c->n_common);
    best_query query = {.pos = (uint32_t)ids.len - 1, .best = c->best};
    if (!rc) rc = vly_engine_logits(engine, ids.data, ids.len, query.pos, take_best, &query, err);
    vly_ids_free(&ids);
    return rc;
}

static uint32_t token_at(const vly_cli_generation *g, size_t i)
{
    return i < g->tokens.len ? g->tokens.data[i] : TEXT_ENDED;
}

static int compare(vly_engine *engine, comparison *c, vly_error *err)
{
    while (c->n_common < c->with.tokens.len &&
           token_at(&c->with, c->n_common) == token_at(&c->without, c->n_common))
        c->n_common++;
    c->differs = token_at(&c->with, c->n_common) != token_at(&c->without, c->n_common) ||
                 c->with.finish != c->without.finish;
    return c->differs ? look_there(engine, c, err) : 0;
}

static void add_stats(vly_stats *sum, const vly_stats *s)
{
    sum->generated_tokens += s->generated_tokens;
    sum->generate_ms += s->generate_ms;
    sum->blocks += s->blocks;
    sum->drafted += s->drafted;
    sum->accepted += s->accepted;
}

/* ---- for people ---- */

static void print_token(const job *j, const char *which, const vly_cli_generation *g, size_t at)
{
    uint32_t id = token_at(g, at);
    if (id == TEXT_ENDED) {
        printf("  %s  the text ends: %s\n", which, vly_finish_name(g->finish));
        return;
    }
    size_t len;
    const char *bytes = vly_engine_token_bytes(j->engine, id, &len);
    vly_text quoted = {0};
    int rc = vly_json_quote((vly_bytes){bytes, len}, &quoted);
    printf("  %s  token %" PRIu32 " %s\n", which, id, rc ? "" : quoted.data);
    vly_text_free(&quoted);
}

static void print_rates(const vly_stats *with, const vly_stats *without)
{
    double fast = vly_cli_tokens_per_second(with), slow = vly_cli_tokens_per_second(without);
    printf("%.1f tokens/s with the draft, %.1f without", fast, slow);
    if (slow > 0) printf(" (%.2f x)", fast / slow);
    printf(", mean accepted length %.2f\n", vly_cli_mean_accepted_length(with));
}

static void print_comparison(const job *j, const comparison *c)
{
    printf("seed %" PRIu64 ": %s, %zu token%s, ", c->seed, c->differs ? "DIFFERENT" : "identical",
           c->with.tokens.len, vly_plural(c->with.tokens.len));
    print_rates(&c->with.stats, &c->without.stats);
    if (c->differs) {
        printf("  first difference: token %zu of the text, position %zu with the prompt\n",
               c->n_common, c->with.prompt_ids.len + c->n_common);
        print_token(j, "with the draft:   ", &c->with, c->n_common);
        print_token(j, "without the draft:", &c->without, c->n_common);
        printf("  the two best there: token %" PRIu32 " with logit %.6g, token %" PRIu32
               " with %.6g: a gap of %.6g\n",
               c->best[0].id, (double)c->best[0].logit, c->best[1].id, (double)c->best[1].logit,
               (double)c->best[0].logit - (double)c->best[1].logit);
    }
    fflush(stdout);
}

static void print_sum(const job *j)
{
    if (j->n_different)
        printf("DIFFERENT for %" PRIu32 " of %" PRIu32 " seeds, ", j->n_different, j->n_compared);
    else
        printf("identical for %" PRIu32 " seed%s, ", j->n_compared, vly_plural(j->n_compared));
    printf("%" PRIu32 " token%s, ", j->with.generated_tokens, vly_plural(j->with.generated_tokens));
    print_rates(&j->with, &j->without);
}

/* ---- JSON ---- */

static void add_rates(cJSON *json, const vly_stats *with, const vly_stats *without)
{
    cJSON *rates = cJSON_AddObjectToObject(json, "tokens_per_second");
    vly_cli_json_add_real(rates, "with_draft", vly_cli_tokens_per_second(with), 3);
    vly_cli_json_add_real(rates, "without_draft", vly_cli_tokens_per_second(without), 3);
    vly_cli_json_add_real(json, "mean_accepted_length", vly_cli_mean_accepted_length(with), 6);
    vly_cli_json_add_real(json, "acceptance_rate", vly_cli_acceptance_rate(with), 6);
}

/* A token's id; null where the text ends. */
static void add_token(cJSON *json, const char *name, uint32_t id)
{
    if (id == TEXT_ENDED)
        cJSON_AddNullToObject(json, name);
    else
        vly_cli_json_add_count(json, name, id);
}

static void add_difference(cJSON *json, const comparison *c)
{
    cJSON *d = cJSON_AddObjectToObject(json, "difference");
    vly_cli_json_add_count(d, "index", c->n_common);
    vly_cli_json_add_count(d, "position", c->with.prompt_ids.len + c->n_common);
    add_token(d, "with_draft", token_at(&c->with, c->n_common));
    add_token(d, "without_draft", token_at(&c->without, c->n_common));
    cJSON *best = cJSON_AddArrayToObject(d, "best");
    for (int i = 0; i < 2; i++) {
        cJSON *pair = cJSON_CreateArray();
        cJSON_AddItemToArray(pair, cJSON_CreateNumber(c->best[i].id));
        cJSON_AddItemToArray(pair, cJSON_CreateNumber((double)c->best[i].logit));
        cJSON_AddItemToArray(best, pair);
    }
    vly_cli_json_add_real(d, "gap", (double)c->best[0].logit - (double)c->best[1].logit, 6);
}

static cJSON *comparison_to_json(const comparison *c)
{
    cJSON *json = cJSON_CreateObject();
    vly_cli_json_add_count(json, "seed", c->seed);
    cJSON_AddBoolToObject(json, "identical", !c->differs);
    vly_cli_json_add_count(json, "generated_tokens", c->with.tokens.len);
    cJSON_AddStringToObject(json, "finish_reason", vly_finish_name(c->with.finish));
    add_rates(json, &c->with.stats, &c->without.stats);
    if (c->differs)
        add_difference(json, c);
    else
        cJSON_AddNullToObject(json, "difference");
    return json;
}

/* Takes over j->seeds. */
static int print_json(job *j, vly_error *err)
{
    const vly_engine_info *info = vly_engine_get_info(j->engine);
    cJSON *json = cJSON_CreateObject();
    vly_cli_json_add_name(json, "model", info->target_name);
    vly_cli_json_add_name(json, "draft", info->draft_name);
    cJSON_AddBoolToObject(json, "identical", j->n_compared > 0 && j->n_different == 0);
    vly_cli_json_add_count(json, "generated_tokens", j->with.generated_tokens);
    add_rates(json, &j->with, &j->without);
    cJSON_AddItemToObject(json, "seeds", j->seeds);
    j->seeds = NULL;
    return vly_cli_json_print(json, err);
}

/* ---- the command ---- */

static vly_request make_request(const job *j, uint64_t seed)
{
    vly_request request = vly_cli_options_request(j->options, j->engine);
    request.prompt = j->prompt.data;
    request.prompt_len = j->prompt.len;
    request.sampling.seed = seed;
    return request;
}

/* Runs the request with the draft and without it. */
static int generate_both(job *j, vly_request *request, comparison *c, vly_error *err)
{
    uint32_t draft_max = request->draft_max;
    int rc = vly_cli_generate(j->engine, request, -1, &c->with, err);
    j->interrupted = c->with.finish == VLY_FINISH_CANCELLED;
    if (rc || j->interrupted) return rc;
    request->draft_max = 0;
    rc = vly_cli_generate(j->engine, request, -1, &c->without, err);
    j->interrupted = c->without.finish == VLY_FINISH_CANCELLED;
    request->draft_max = draft_max;
    return rc;
}

static void comparison_deinit(comparison *c)
{
    vly_cli_generation_deinit(&c->with);
    vly_cli_generation_deinit(&c->without);
}

static int verify_seed(job *j, uint64_t seed, vly_error *err)
{
    comparison c = {.seed = seed};
    vly_request request = make_request(j, seed);
    int rc = generate_both(j, &request, &c, err);
    if (!rc && !j->interrupted) rc = compare(j->engine, &c, err);
    if (!rc && !j->interrupted) {
        j->n_compared++;
        j->n_different += c.differs;
        add_stats(&j->with, &c.with.stats);
        add_stats(&j->without, &c.without.stats);
        if (j->seeds)
            cJSON_AddItemToArray(j->seeds, comparison_to_json(&c));
        else
            print_comparison(j, &c);
    }
    comparison_deinit(&c);
    return rc;
}

static int verify(job *j, vly_error *err)
{
    const vly_cli_options *o = j->options;
    int rc = o->has_seed ? 0 : vly_cli_random_seed(&j->seed, err);
    if (!rc) rc = vly_cli_load(o, true, &j->engine, err);
    if (rc) return rc;
    rc = vly_cli_spell_prompt(j->engine, o, &j->prompt, err);
    if (o->json) j->seeds = cJSON_CreateArray();
    for (uint32_t i = 0; !rc && !j->interrupted && i < o->n_seeds; i++)
        rc = verify_seed(j, j->seed + i, err);
    if (!rc && o->json)
        rc = print_json(j, err);
    else if (!rc && j->n_compared > 0)
        print_sum(j);
    cJSON_Delete(j->seeds);
    vly_engine_destroy(j->engine);
    return rc;
}

int vly_cli_verify(int argc, char **argv)
{
    vly_cli_options options;
    vly_error err;
    int status = vly_cli_options_parse(VLY_CLI_VERIFY, argc, argv, &options);
    job j = {.options = &options, .seed = options.sampling.seed};
    if (!status) status = vly_cli_read_prompt(argv[0], &options, &j.prompt);
    if (!status && verify(&j, &err)) status = vly_cli_fail(&err);
    if (!status && j.interrupted) status = VLY_CLI_INTERRUPTED;
    if (!status && j.n_different) status = 1;
    vly_text_free(&j.prompt);
    vly_cli_options_deinit(&options);
    return status < 0 ? 0 : status;
}
