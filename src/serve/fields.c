#include "serve/fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int vly_field_fail(const char *name, const char *expected, const cJSON *item, vly_api_error *err)
{
    char got[64];
    if (cJSON_IsNumber(item))
        snprintf(got, sizeof got, "%.17g", item->valuedouble);
    else if (cJSON_IsString(item))
        snprintf(got, sizeof got, "\"%.40s\"", item->valuestring);
    else
        snprintf(got, sizeof got, "%s",
                 cJSON_IsBool(item)     ? (cJSON_IsTrue(item) ? "true" : "false")
                 : cJSON_IsArray(item)  ? (item->child ? "an array" : "an empty array")
                 : cJSON_IsObject(item) ? "an object"
                 : cJSON_IsNull(item)   ? "null"
                                        : "nothing");
    return vly_api_fail(err, 400, NULL, name, "'%s': expected %s, got %s", name, expected, got);
}

bool vly_json_is_whole(const cJSON *item, double min, double max)
{
    return cJSON_IsNumber(item) && item->valuedouble >= min && item->valuedouble <= max &&
           item->valuedouble == floor(item->valuedouble);
}

static int fail_range(const vly_field *field, const char *kind, const cJSON *item,
                      vly_api_error *err)
{
    char expected[96];
    snprintf(expected, sizeof expected, "%s, %.16g to %.16g", kind, field->min, field->max);
    return vly_field_fail(field->name, expected, item, err);
}

int vly_field_bool(const vly_field *field, const cJSON *item, void *target, vly_api_error *err)
{
    if (!cJSON_IsBool(item)) return vly_field_fail(field->name, "true or false", item, err);
    *(bool *)((char *)target + field->offset) = cJSON_IsTrue(item);
    return 0;
}

int vly_field_count(const vly_field *field, const cJSON *item, void *target, vly_api_error *err)
{
    if (!vly_json_is_whole(item, field->min, field->max))
        return fail_range(field, "a whole number", item, err);
    *(uint32_t *)((char *)target + field->offset) = (uint32_t)item->valuedouble;
    return 0;
}

int vly_field_real(const vly_field *field, const cJSON *item, void *target, vly_api_error *err)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= field->min) ||
        !(item->valuedouble <= field->max))
        return fail_range(field, "a number", item, err);
    float value = (float)item->valuedouble;
    memcpy((char *)target + field->offset, &value, sizeof value);
    return 0;
}

int vly_fields_read(const vly_field *fields, size_t n, unsigned where, const cJSON *object,
                    void *target, vly_api_error *err)
{
    /* Through the object once, which may have very many fields that are unknown. */
    const cJSON *found[VLY_MAX_FIELDS] = {NULL}, *item;
    cJSON_ArrayForEach(item, object)
    {
        for (size_t i = 0; i < n; i++)
            if ((fields[i].where & where) && !found[i] && strcmp(fields[i].name, item->string) == 0)
                found[i] = item;
    }
    for (size_t i = 0; i < n; i++)
        if (found[i] && !cJSON_IsNull(found[i]) &&
            fields[i].read(&fields[i], found[i], target, err))
            return -1;
    return 0;
}
