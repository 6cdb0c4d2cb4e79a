#include "cli/json_fields.h"

#include "text/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void vly_cli_json_add_real(cJSON *object, const char *name, double value, int decimals)
{
    char text[400]; /* of the largest double */
    snprintf(text, sizeof text, "%.*f", decimals, value);
    cJSON_AddRawToObject(object, name, isfinite(value) ? text : "null");
}

void vly_cli_json_add_count(cJSON *object, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    cJSON_AddRawToObject(object, name, text);
}

void vly_cli_json_add_ids(cJSON *object, const char *name, const uint32_t *ids, size_t n)
{
    cJSON *array = cJSON_AddArrayToObject(object, name);
    for (size_t i = 0; i < n; i++) cJSON_AddItemToArray(array, cJSON_CreateNumber(ids[i]));
}

void vly_cli_json_add_bytes(cJSON *object, const char *name, const char *data, size_t len)
{
    vly_text quoted = {0};
    if (vly_json_quote((vly_bytes){data, len}, &quoted) == 0)
        cJSON_AddRawToObject(object, name, quoted.data);
    vly_text_free(&quoted);
}

void vly_cli_json_add_name(cJSON *object, const char *name, const char *value)
{
    if (value)
        vly_cli_json_add_bytes(object, name, value, strlen(value));
    else
        cJSON_AddNullToObject(object, name);
}

int vly_cli_json_print(cJSON *json, vly_error *err)
{
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    if (!text) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to write the result as JSON");
    puts(text);
    cJSON_free(text);
    return 0;
}
