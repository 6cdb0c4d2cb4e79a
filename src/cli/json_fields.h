/* Fields of the commands' JSON objects that cJSON alone would not write as they should be. Without
 * memory a field is left out, and vly_cli_json_print most likely fails. */
#ifndef VLY_CLI_JSON_FIELDS_H
#define VLY_CLI_JSON_FIELDS_H

#include "base/error.h"

#include <cjson/cJSON.h>

/* A number with `decimals` digits after the point; null for one that is not finite. */
void vly_cli_json_add_real(cJSON *object, const char *name, double value, int decimals);

/* All bits of a whole number, of which cJSON's doubles would lose some. */
void vly_cli_json_add_count(cJSON *object, const char *name, uint64_t value);

void vly_cli_json_add_ids(cJSON *object, const char *name, const uint32_t *ids, size_t n);

/* Any bytes as a string: U+0000 as it is, what is no UTF-8 as U+FFFD. */
void vly_cli_json_add_bytes(cJSON *object, const char *name, const char *data, size_t len);

/* The same of a terminated string; null for NULL. */
void vly_cli_json_add_name(cJSON *object, const char *name, const char *value);

/* Prints `json` and a newline to stdout, and deletes it. VLY_E_HOST_MEMORY. */
int vly_cli_json_print(cJSON *json, vly_error *err);

#endif
