/* volley run: writes text. */
#include "cli/cli.h"
#include "cli/generate.h"
#include "cli/json_fields.h"

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

/* ---- statistics for people ---- */

static void print_line(const job *j)
{
    const vly_stats *s = &j->generation.stats;
    fprintf(stderr, "%" PRIu32 " tokens, %.1f tokens/s, %" PRIu32 " blocks", s->generated_tokens,
            vly_cli_tokens_per_second(s), s->blocks);
    if (effective_draft_max(j) && (j->info->draft_name || s->drafted > 0))
        fprintf(stderr, ", mean accepted length %.2f, acceptance rate %.3f",
                vly_cli_mean_accepted_length(s), vly_cli_acceptance_rate(s));
    fprintf(stderr, ", seed %" PRIu64 "\n", j->seed);
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static void print_draft_table(const job *j)
{
    const vly_stats *s = &j->generation.stats;
    if (j->info->draft_name)
        fprintf(stderr,
                "draft          %" PRIu32 " of its %" PRIu32 " tokens are in the target's\n",
                j->info->n_draft_mapped, j->info->n_draft_vocab);
    fprintf(stderr,
            "drafted        %" PRIu32 " tokens, accepted %" PRIu32 ", acceptance rate %.3f\n",
            s->drafted, s->accepted, vly_cli_acceptance_rate(s));
    for (int i = 0; i < VLY_N_DRAFT_METHODS; i++)
        if (s->drafted_by_method[i])
            fprintf(stderr, "  by %-10s %" PRIu32 " tokens, accepted %" PRIu32 "\n",
                    vly_draft_method_name(i), s->drafted_by_method[i], s->accepted_by_method[i]);
    fprintf(stderr,
            "lost           %" PRIu32 " not the target's pick, %" PRIu32
            " behind one of those, %" PRIu32 " behind the end\n",
            s->lost_to_pick, s->lost_to_front, s->lost_to_end);
    fprintf(stderr, "               position  drafted  accepted   rate\n");
    for (uint32_t i = 0; i < effective_draft_max(j); i++) {
        uint32_t drafted = s->drafted_by_position[i], accepted = s->accepted_by_position[i];
        fprintf(stderr, "               %8" PRIu32 " %8" PRIu32 " %9" PRIu32 "  %5.3f\n", i + 1,
                drafted, accepted, drafted ? (double)accepted / drafted : 0.0);
    }
}

/* Lines of at most 80 columns, but for a device with a long name. */
static void print_table(const job *j)
{
    const vly_stats *s = &j->generation.stats;
    const vly_engine_info *info = j->info;
    double prompt_rate = s->prompt_ms > 0 ? 1000 * s->prompt_tokens / s->prompt_ms : 0;
    fprintf(stderr, "device         %s\n", info->device_name);
    fprintf(stderr, "weights        target %.1f MiB, draft %.1f MiB, activations included\n",
            mib(info->target_bytes), mib(info->draft_bytes));
    fprintf(stderr, "KV cache       target %.2f MiB, draft %.2f MiB, as %s\n",
            mib(s->kv_target_bytes), mib(s->kv_draft_bytes), j->options->kv_f16 ? "f16" : "int8");
    fprintf(stderr, "prompt         %" PRIu32 " tokens in %.1f ms, %.1f tokens/s\n",
            s->prompt_tokens, s->prompt_ms, prompt_rate);
    fprintf(stderr, "text           %" PRIu32 " tokens in %.1f ms, %.1f tokens/s\n",
            s->generated_tokens, s->generate_ms, vly_cli_tokens_per_second(s));
    fprintf(stderr, "ended by       %s; context %" PRIu32 " tokens\n",
            vly_finish_name(j->generation.finish), info->n_ctx);
    fprintf(stderr, "blocks         %" PRIu32 ", mean accepted length %.2f\n", s->blocks,
            vly_cli_mean_accepted_length(s));
    fprintf(stderr, "on the device  draft %.1f ms, verify %.1f ms\n", s->draft_ms, s->verify_ms);
    if (effective_draft_max(j)) print_draft_table(j);
    fprintf(stderr, "seed           %" PRIu64 "\n", j->seed);
}

/* ---- JSON ---- */

static void add_stats(cJSON *json, const job *j)
{
    const vly_stats *s = &j->generation.stats;
    cJSON *stats = cJSON_AddObjectToObject(json, "stats");
    vly_cli_json_add_count(stats, "prompt_tokens", s->prompt_tokens);
    vly_cli_json_add_count(stats, "generated_tokens", s->generated_tokens);
    vly_cli_json_add_real(stats, "prompt_ms", s->prompt_ms, 3);
    vly_cli_json_add_real(stats, "generate_ms", s->generate_ms, 3);
    vly_cli_json_add_real(stats, "tokens_per_second", vly_cli_tokens_per_second(s), 3);
    vly_cli_json_add_count(stats, "blocks", s->blocks);
    vly_cli_json_add_count(stats, "drafted", s->drafted);
    vly_cli_json_add_count(stats, "accepted", s->accepted);
    vly_cli_json_add_real(stats, "acceptance_rate", vly_cli_acceptance_rate(s), 6);
    vly_cli_json_add_real(stats, "mean_accepted_length", vly_cli_mean_accepted_length(s), 6);
    vly_cli_json_add_ids(stats, "accepted_by_position", s->accepted_by_position,
                         effective_draft_max(j));
    vly_cli_json_add_real(stats, "draft_ms", s->draft_ms, 3);
    vly_cli_json_add_real(stats, "verify_ms", s->verify_ms, 3);
    cJSON *kv = cJSON_AddObjectToObject(stats, "kv_bytes");
    vly_cli_json_add_count(kv, "target", s->kv_target_bytes);
    vly_cli_json_add_count(kv, "draft", s->kv_draft_bytes);
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
    add_stats(json, j);
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
    if (!o->json) print_line(j);
    if (o->stats) print_table(j);
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
