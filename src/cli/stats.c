#include "cli/stats.h"

#include "cli/json_fields.h"

#include <inttypes.h>
#include <stdio.h>

static double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

/* ---- the table ---- */

static const char *const rank_names[VLY_N_LOST_RANKS] = {"1", "2", "3", "4-10", "11-100", "more"};

#define WIDTH 80 /* of a terminal */

/* Prints one more of several " NAME: COUNT" in a row, of which the last character was in `column`;
 * on a new line that begins with `indent` spaces where it would not fit. Returns its column. */
static int print_count(int column, int indent, const char *name, uint32_t count, const char *end)
{
    char text[48];
    int len = snprintf(text, sizeof text, " %s: %" PRIu32 "%s", name, count, end);
    if (column + len > WIDTH) column = fprintf(stderr, "\n%*s", indent, "") - 1;
    return column + fprintf(stderr, "%s", text);
}

static void print_losses(const vly_stats *s)
{
    fprintf(stderr, "lost           %8" PRIu32 " not the target's pick\n", s->lost_to_pick);
    int column = fprintf(stderr, "  its rank of the lost token:"), indent = column;
    for (int i = 0; i < VLY_N_LOST_RANKS; i++)
        column = print_count(column, indent, rank_names[i], s->lost_by_rank[i],
                             i + 1 < VLY_N_LOST_RANKS ? "," : "");
    fprintf(stderr,
            "\n               %8" PRIu32 " as the target's pick is no token of the draft's\n"
            "               %8" PRIu32 " split: the same text in other tokens\n"
            "               %8" PRIu32 " behind one of those\n"
            "               %8" PRIu32 " behind the end\n",
            s->lost_unmapped, s->lost_split, s->lost_to_front, s->lost_to_end);
}

static void print_lengths(const vly_stats *s)
{
    int column = fprintf(stderr, "by tokens drafted:"), indent = column;
    for (int i = 0; i <= VLY_MAX_DRAFT; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        if (s->blocks_by_length[i])
            column = print_count(column, indent, name, s->blocks_by_length[i], ",");
    }
    print_count(column, indent, "probes", s->probes, "\n");
}

static void print_positions(const vly_stats *s)
{
    fprintf(stderr, "               position  drafted  accepted   rate\n");
    for (int i = 0; i < VLY_MAX_DRAFT && s->drafted_by_position[i]; i++)
        fprintf(stderr, "               %8d %8" PRIu32 " %9" PRIu32 "  %5.3f\n", i + 1,
                s->drafted_by_position[i], s->accepted_by_position[i],
                ratio(s->accepted_by_position[i], s->drafted_by_position[i]));
}

static void print_drafts(const vly_engine_info *info, const vly_stats *s)
{
    if (info->draft_name)
        fprintf(stderr,
                "draft          %" PRIu32 " of its %" PRIu32 " tokens are in the target's\n",
                info->n_draft_mapped, info->n_draft_vocab);
    fprintf(stderr,
            "drafted        %" PRIu32 " token%s, accepted %" PRIu32 ", acceptance rate %.3f\n",
            s->drafted, vly_plural(s->drafted), s->accepted, vly_cli_acceptance_rate(s));
    for (int i = 0; i < VLY_N_DRAFT_METHODS; i++)
        if (s->drafted_by_method[i])
            fprintf(stderr,
                    "  by %-10s %" PRIu32 " token%s, accepted %" PRIu32 ", in %" PRIu32
                    " block%s\n",
                    vly_draft_method_name(i), s->drafted_by_method[i],
                    vly_plural(s->drafted_by_method[i]), s->accepted_by_method[i],
                    s->blocks_by_method[i], vly_plural(s->blocks_by_method[i]));
    print_losses(s);
    print_positions(s);
}

void vly_cli_print_drafting(const vly_stats *s)
{
    if (s->drafted)
        fprintf(stderr, ", mean accepted length %.2f, acceptance rate %.3f",
                vly_cli_mean_accepted_length(s), vly_cli_acceptance_rate(s));
    else
        fputs(", nothing drafted", stderr);
}

/* Of a prompt of one token nothing is read: the first pass that writes takes it in. */
static void print_prompt(const vly_stats *s)
{
    fprintf(stderr, "prompt         %" PRIu32 " token%s in %.1f ms", s->prompt_tokens,
            vly_plural(s->prompt_tokens), s->prompt_ms);
    if (s->prompt_tokens - s->n_cached_tokens > 1)
        fprintf(stderr, ", %.1f tokens/s", ratio(1000.0 * s->prompt_tokens, s->prompt_ms));
    fputc('\n', stderr);
}

void vly_cli_print_stats(const vly_engine_info *info, const vly_cli_generation *g, bool kv_f16,
                         uint64_t seed)
{
    const vly_stats *s = &g->stats;
    fprintf(stderr, "device         %s\n", info->device_name);
    fprintf(stderr, "weights        target %.1f MiB, draft %.1f MiB, activations included\n",
            mib(info->target_bytes), mib(info->draft_bytes));
    fprintf(stderr, "KV cache       target %.2f MiB, draft %.2f MiB, as %s\n",
            mib(s->kv_target_bytes), mib(s->kv_draft_bytes), kv_f16 ? "f16" : "int8");
    print_prompt(s);
    fprintf(stderr, "text           %" PRIu32 " token%s in %.1f ms, %.1f tokens/s\n",
            s->generated_tokens, vly_plural(s->generated_tokens), s->generate_ms,
            vly_cli_tokens_per_second(s));
    fprintf(stderr, "ended by       %s; context %" PRIu32 " tokens\n", vly_finish_name(g->finish),
            info->n_ctx);
    fprintf(stderr, "blocks         %" PRIu32 ", mean accepted length %.2f, %.1f bytes each\n",
            s->blocks, vly_cli_mean_accepted_length(s),
            ratio((double)s->generated_bytes, s->blocks));
    print_lengths(s);
    double device_ms = s->draft_ms + s->verify_ms + s->idle_ms;
    fprintf(stderr,
            "on the device  draft %.1f ms, verify %.1f ms,\n"
            "               idle between these %.1f ms (%.1f%%)\n",
            s->draft_ms, s->verify_ms, s->idle_ms, 100 * ratio(s->idle_ms, device_ms));
    fprintf(stderr, "on the host    mapping %.1f ms, waiting %.1f ms\n", s->map_ms, s->wait_ms);
    if (s->plain_ms > 0)
        fprintf(stderr, "speed-up       %.2f, as plain decoding would take about %.1f ms\n",
                ratio(s->plain_ms, s->generate_ms), s->plain_ms);
    if (s->drafted) print_drafts(info, s);
    fprintf(stderr, "seed           %" PRIu64 "\n", seed);
}

/* ---- JSON ---- */

static void add_methods(cJSON *stats, const vly_stats *s)
{
    cJSON *all = cJSON_AddObjectToObject(stats, "by_method");
    for (int i = 0; i < VLY_N_DRAFT_METHODS; i++) {
        if (!s->blocks_by_method[i]) continue;
        cJSON *one = cJSON_AddObjectToObject(all, vly_draft_method_name(i));
        vly_cli_json_add_count(one, "blocks", s->blocks_by_method[i]);
        vly_cli_json_add_count(one, "drafted", s->drafted_by_method[i]);
        vly_cli_json_add_count(one, "accepted", s->accepted_by_method[i]);
    }
}

static void add_losses(cJSON *stats, const vly_stats *s)
{
    cJSON *lost = cJSON_AddObjectToObject(stats, "lost");
    vly_cli_json_add_count(lost, "pick", s->lost_to_pick);
    vly_cli_json_add_count(lost, "unmapped", s->lost_unmapped);
    vly_cli_json_add_count(lost, "split", s->lost_split);
    vly_cli_json_add_count(lost, "front", s->lost_to_front);
    vly_cli_json_add_count(lost, "end", s->lost_to_end);
    cJSON *ranks = cJSON_AddObjectToObject(lost, "pick_by_rank");
    for (int i = 0; i < VLY_N_LOST_RANKS; i++)
        vly_cli_json_add_count(ranks, rank_names[i], s->lost_by_rank[i]);
}

/* What the models and the device are like that the figures are of. */
static void add_setting(cJSON *stats, const vly_engine_info *info, bool kv_f16)
{
    vly_cli_json_add_name(stats, "device", info->device_name);
    vly_cli_json_add_count(stats, "context", info->n_ctx);
    cJSON_AddStringToObject(stats, "kv", kv_f16 ? "f16" : "int8");
    cJSON *weights = cJSON_AddObjectToObject(stats, "weights_bytes");
    vly_cli_json_add_count(weights, "target", info->target_bytes);
    vly_cli_json_add_count(weights, "draft", info->draft_bytes);
    cJSON *vocabulary = cJSON_AddObjectToObject(stats, "draft_vocabulary");
    vly_cli_json_add_count(vocabulary, "tokens", info->n_draft_vocab);
    vly_cli_json_add_count(vocabulary, "mapped", info->n_draft_mapped);
}

void vly_cli_add_stats(cJSON *json, const vly_engine_info *info, const vly_stats *s, bool kv_f16,
                       uint32_t draft_max)
{
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
    vly_cli_json_add_ids(stats, "accepted_by_position", s->accepted_by_position, draft_max);
    vly_cli_json_add_ids(stats, "drafted_by_position", s->drafted_by_position, draft_max);
    vly_cli_json_add_ids(stats, "blocks_by_length", s->blocks_by_length, draft_max + 1);
    add_methods(stats, s);
    vly_cli_json_add_count(stats, "probes", s->probes);
    add_losses(stats, s);
    vly_cli_json_add_count(stats, "generated_bytes", s->generated_bytes);
    vly_cli_json_add_real(stats, "bytes_per_block", ratio((double)s->generated_bytes, s->blocks),
                          3);
    vly_cli_json_add_real(stats, "draft_ms", s->draft_ms, 3);
    vly_cli_json_add_real(stats, "verify_ms", s->verify_ms, 3);
    vly_cli_json_add_real(stats, "map_ms", s->map_ms, 3);
    vly_cli_json_add_real(stats, "wait_ms", s->wait_ms, 3);
    vly_cli_json_add_real(stats, "idle_ms", s->idle_ms, 3);
    vly_cli_json_add_real(stats, "plain_ms", s->plain_ms, 3);
    vly_cli_json_add_real(stats, "speed_up", ratio(s->plain_ms, s->generate_ms), 3);
    cJSON *kv = cJSON_AddObjectToObject(stats, "kv_bytes");
    vly_cli_json_add_count(kv, "target", s->kv_target_bytes);
    vly_cli_json_add_count(kv, "draft", s->kv_draft_bytes);
    add_setting(stats, info, kv_f16);
}
