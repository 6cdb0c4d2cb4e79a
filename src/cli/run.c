/* volley run: writes text. */
#include "cli/cli.h"
#include "cli/generate.h"
#include "cli/json_fields.h"
#include "cli/stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

typedef struct {
    const vly_cli_options *options;
    const vly_engine_info *info;
    uint64_t seed;
    vly_text prompt;
    vly_cli_generation generation;
} job;

/* How many tokens a block could draft. */
static uint32_t effective_draft_max(const job *j)
{
    return j->options->draft_method == VLY_DRAFT_NONE ? 0 : j->options->draft_max;
}

/* The line after the text. */
static void print_line(const job *j)
{
    const vly_stats *s = &j->generation.stats;
    fprintf(stderr, "%" PRIu32 " token%s, %.1f tokens/s, %" PRIu32 " block%s", s->generated_tokens,
            vly_plural(s->generated_tokens), vly_cli_tokens_per_second(s), s->blocks,
            vly_plural(s->blocks));
    if (effective_draft_max(j) && (j->info->draft_name || s->drafted > 0))
        vly_cli_print_drafting(s);
    fprintf(stderr, ", seed %" PRIu64 "\n", j->seed);
}

static int print_json(const job *j, vly_error *err)
{
    const vly_cli_generation *g = &j->generation;
    cJSON *json = cJSON_CreateObject();
    vly_cli_json_add_name(json, "model", j->info->target_name);
    vly_cli_json_add_name(json, "draft", j->info->draft_name);
    vly_cli_json_add_bytes(json, "prompt", j->prompt.data, j->prompt.len);
    vly_cli_json_add_ids(json, "prompt_tokens", g->prompt_ids.data, g->prompt_ids.len);
    vly_cli_json_add_bytes(json, "text", g->text.data, g->text.len);
    vly_cli_json_add_ids(json, "tokens", g->tokens.data, g->tokens.len);
    cJSON_AddStringToObject(json, "finish_reason", vly_finish_name(g->finish));
    vly_cli_json_add_count(json, "seed", j->seed);
    vly_cli_add_stats(json, j->info, &g->stats, j->options->kv_f16, effective_draft_max(j));
    return vly_cli_json_print(json, err);
}

/* ---- the command ---- */

/* Generates with the loaded engine and prints what the options ask for. */
static int write_text(vly_engine *engine, job *j, vly_error *err)
{
    const vly_cli_options *o = j->options;
    int rc = vly_cli_spell_prompt(engine, o, &j->prompt, err);
    if (rc) return rc;
    vly_request request = vly_cli_options_request(o, engine);
    request.prompt = j->prompt.data;
    request.prompt_len = j->prompt.len;
    request.sampling.seed = j->seed;
    if (o->echo) rc = vly_cli_write(STDOUT_FILENO, j->prompt.data, j->prompt.len, err);
    if (!rc)
        rc = vly_cli_generate(engine, &request, o->json ? -1 : STDOUT_FILENO, &j->generation, err);
    if (!rc) rc = o->json ? print_json(j, err) : vly_cli_write(STDOUT_FILENO, "\n", 1, err);
    if (rc) return rc;
    if (!o->json && !o->stats) print_line(j);
    if (o->stats) vly_cli_print_stats(j->info, &j->generation, j->options->kv_f16, j->seed);
    return 0;
}

static int run(job *j, vly_error *err)
{
    vly_engine *engine;
    int rc = j->options->has_seed ? 0 : vly_cli_random_seed(&j->seed, err);
    if (!rc) rc = vly_cli_load(j->options, j->options->draft_max > 0, &engine, err);
    if (rc) return rc;
    j->info = vly_engine_get_info(engine);
    rc = write_text(engine, j, err);
    vly_engine_destroy(engine);
    return rc;
}

int vly_cli_run(int argc, char **argv)
{
    vly_cli_options options;
    vly_error err;
    int status = vly_cli_options_parse(VLY_CLI_RUN, argc, argv, &options);
    job j = {.options = &options, .seed = options.sampling.seed};
    if (!status) status = vly_cli_read_prompt(argv[0], &options, &j.prompt);
    if (!status && run(&j, &err)) status = vly_cli_fail(&err);
    if (!status && j.generation.finish == VLY_FINISH_CANCELLED) status = VLY_CLI_INTERRUPTED;
    vly_text_free(&j.prompt);
    vly_cli_generation_deinit(&j.generation);
    vly_cli_options_deinit(&options);
    return status < 0 ? 0 : status;
}
