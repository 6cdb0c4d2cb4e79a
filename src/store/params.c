#include "store/params.h"

#include "base/log.h"
#include "base/vec.h"
#include "text/json.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define RECENT_TOKENS 64 /* that penalties look back over where nothing else is said */

typedef enum {
    REAL,  /* float */
    COUNT, /* uint32_t */
    LIMIT  /* uint32_t; a negative number is no limit: UINT32_MAX */
} param_kind;

#define AT(field) offsetof(vly_store_params, field)

static const struct {
    const char *name;
    param_kind kind;
    size_t offset; /* of the field */
    double min, max;
} params[] = {
    {"temperature", REAL, AT(sampling.temperature), 0, 100},
    {"top_k", COUNT, AT(sampling.top_k), 0, UINT32_MAX - 1.0},
    {"top_p", REAL, AT(sampling.top_p), (double)FLT_MIN, 1},
    {"min_p", REAL, AT(sampling.min_p), 0, 1},
    {"repeat_penalty", REAL, AT(sampling.repeat_penalty), (double)FLT_MIN, 100},
    {"presence_penalty", REAL, AT(sampling.presence_penalty), -100, 100},
    {"frequency_penalty", REAL, AT(sampling.frequency_penalty), -100, 100},
    {"repeat_last_n", LIMIT, AT(sampling.penalty_last_n), -2, UINT32_MAX - 1.0},
    {"num_ctx", COUNT, AT(n_ctx), 0, UINT32_MAX - 1.0},
    {"num_predict", LIMIT, AT(max_tokens), -2, UINT32_MAX - 1.0},
};

vly_store_params vly_store_params_default(void)
{
    vly_store_params p = {.sampling = vly_sampling_default(), .max_tokens = UINT32_MAX};
    p.sampling.penalty_last_n = RECENT_TOKENS;
    return p;
}

/* Stores a number where it belongs; false where it is none for that. */
static bool take_number(const cJSON *item, size_t i, vly_store_params *out)
{
    void *field = (char *)out + params[i].offset;
    double value = item->valuedouble;
    if (!cJSON_IsNumber(item) || !(value >= params[i].min && value <= params[i].max)) return false;
    if (params[i].kind == REAL) {
        *(float *)field = (float)value;
        return true;
    }
    if (floor(value) != value) return false;
    *(uint32_t *)field = value < 0 ? UINT32_MAX : (uint32_t)value;
    return true;
}

/* A string with a zero byte (JSON's \u0000) or an empty one stops nothing. */
static int take_stop(const cJSON *item, vly_store_params *out, vly_error *err)
{
    vly_text text = {0};
    if (!cJSON_IsString(item) || out->n_stop == VLY_MAX_STOP) {
        vly_log(VLY_LOG_WARN, "store",
                "parameter stop: expected at most %d strings; one is left out", VLY_MAX_STOP);
        return 0;
    }
    if (vly_json_string(item, &text)) {
        vly_text_free(&text);
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a stop string");
    }
    if (text.len == 0 || strlen(text.data) != text.len)
        vly_text_free(&text);
    else
        out->stop[out->n_stop++] = text.data;
    return 0;
}

static int take_stops(const cJSON *item, vly_store_params *out, vly_error *err)
{
    if (!cJSON_IsArray(item)) return take_stop(item, out, err);
    int rc = 0;
    const cJSON *stop;
    cJSON_ArrayForEach(stop, item)
    {
        if (rc == 0) rc = take_stop(stop, out, err);
    }
    return rc;
}

int vly_store_params_parse(const char *text, size_t n, vly_store_params *out, vly_error *err)
{
    *out = vly_store_params_default();
    cJSON *json;
    int rc = vly_json_parse(text, n, &json, err);
    if (rc) return rc;
    if (!cJSON_IsObject(json)) rc = vly_fail(err, VLY_E_FORMAT, "expected an object of parameters");
    for (size_t i = 0; rc == 0 && i < sizeof params / sizeof *params; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, params[i].name);
        if (item && !take_number(item, i, out))
            vly_log(VLY_LOG_WARN, "store",
                    "parameter %s: expected a number, %.10g to %.10g; it is left out",
                    params[i].name, params[i].min, params[i].max);
    }
    const cJSON *stop = cJSON_GetObjectItemCaseSensitive(json, "stop");
    if (rc == 0 && stop) rc = take_stops(stop, out, err);
    cJSON_Delete(json);
    return rc;
}

void vly_store_params_deinit(vly_store_params *p)
{
    for (uint32_t i = 0; i < p->n_stop; i++) free(p->stop[i]);
    *p = vly_store_params_default();
}
