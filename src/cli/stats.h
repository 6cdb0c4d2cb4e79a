/* What `volley run` tells of a text: all statistics, as a table and as JSON. */
#ifndef VLY_CLI_STATS_H
#define VLY_CLI_STATS_H

#include "cli/generate.h"

#include <cjson/cJSON.h>

/* How drafting went, as the end of a line on stderr: ", mean accepted length 2.50, acceptance rate
 * 0.600", or ", nothing drafted". */
void vly_cli_print_drafting(const vly_stats *stats);

/* The table, to stderr: lines of at most 80 columns, but for a device with a long name. */
void vly_cli_print_stats(const vly_engine_info *info, const vly_cli_generation *generation,
                         bool kv_f16, uint64_t seed);

/* Adds them as an object "stats"; by position there are `draft_max` entries. */
void vly_cli_add_stats(cJSON *json, const vly_engine_info *info, const vly_stats *stats,
                       bool kv_f16, uint32_t draft_max);

#endif
