#include "store/manifest.h"

#include "gguf/quote.h"
#include "text/json.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#define MEDIA_TYPE_PREFIX "application/vnd.ollama.image."

static const char *const suffixes[VLY_N_LAYERS] = {
    [VLY_LAYER_MODEL] = "model",       [VLY_LAYER_ADAPTER] = "adapter",
    [VLY_LAYER_TEMPLATE] = "template", [VLY_LAYER_SYSTEM] = "system",
    [VLY_LAYER_PARAMS] = "params",
};

/* VLY_N_LAYERS for what is not known. */
static vly_layer_kind kind_of(const char *media_type)
{
    size_t n = strlen(MEDIA_TYPE_PREFIX);
    vly_layer_kind kind = VLY_LAYER_MODEL;
    if (!media_type || strncmp(media_type, MEDIA_TYPE_PREFIX, n) != 0) return VLY_N_LAYERS;
    while (kind < VLY_N_LAYERS && strcmp(media_type + n, suffixes[kind]) != 0) kind++;
    return kind;
}

static vly_quoted quote(const char *text)
{
    return vly_quote((vly_bytes){text ? text : "", text ? strlen(text) : 0});
}

/* "sha256:", or "sha256-", and 64 digits. Nothing else may become a part of a path. */
static int parse_digest(const char *text, char out[64 + 1], vly_error *err)
{
    if (text && strncmp(text, "sha256", 6) == 0 && (text[6] == ':' || text[6] == '-') &&
        strlen(text) == 7 + 64 && strspn(text + 7, "0123456789abcdefABCDEF") == 64) {
        /* Files are named in lower case. */
        for (int i = 0; i <= 64; i++) out[i] = (char)tolower((unsigned char)text[7 + i]);
        return 0;
    }
    return vly_fail(err, VLY_E_FORMAT,
                    "digest: expected 'sha256:' and 64 hexadecimal digits, got %s",
                    quote(text).text);
}

static int parse_size(const cJSON *item, uint64_t *out, vly_error *err)
{
    double size = cJSON_IsNumber(item) ? item->valuedouble : -1;
    /* Larger numbers are not whole ones any more. */
    if (!(size >= 0 && size <= 0x1p53 && floor(size) == size))
        return vly_fail(err, VLY_E_FORMAT, "size: expected a number of bytes, got %s",
                        cJSON_IsNumber(item) ? "another number" : "none");
    *out = (uint64_t)size;
    return 0;
}

static int parse_layer(const cJSON *item, vly_manifest *out, vly_error *err)
{
    vly_layer_kind kind =
        kind_of(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "mediaType")));
    if (kind == VLY_N_LAYERS) return 0;
    if (kind == VLY_LAYER_ADAPTER)
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "the model has an adapter (LoRA), which Volley does not apply");
    vly_layer *layer = &out->layers[kind];
    if (kind == VLY_LAYER_MODEL && layer->digest[0])
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "expected one layer of type " MEDIA_TYPE_PREFIX "model, found more");
    int rc = parse_digest(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "digest")),
                          layer->digest, err);
    if (rc == 0)
        rc = parse_size(cJSON_GetObjectItemCaseSensitive(item, "size"), &layer->n_bytes, err);
    if (rc == 0 && kind != VLY_LAYER_MODEL && layer->n_bytes > VLY_MAX_MANIFEST_BYTES)
        rc = vly_fail(err, VLY_E_FORMAT, "size: expected at most %u bytes, got %llu",
                      VLY_MAX_MANIFEST_BYTES, (unsigned long long)layer->n_bytes);
    return rc ? vly_fail_within(err, "%s layer", suffixes[kind]) : 0;
}

int vly_manifest_parse(const char *text, size_t n, vly_manifest *out, vly_error *err)
{
    *out = (vly_manifest){0};
    cJSON *json;
    int rc = vly_json_parse(text, n, &json, err);
    if (rc) return rc;
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(json, "layers"), *item;
    if (!cJSON_IsArray(layers))
        rc = vly_fail(err, VLY_E_FORMAT, "expected a manifest, an object with an array 'layers'");
    cJSON_ArrayForEach(item, layers)
    {
        if (rc == 0) rc = parse_layer(item, out, err);
    }
    if (rc == 0 && !out->layers[VLY_LAYER_MODEL].digest[0])
        rc = vly_fail(err, VLY_E_FORMAT,
                      "expected a layer of type " MEDIA_TYPE_PREFIX "model, found none: the model "
                      "is no GGUF file");
    cJSON_Delete(json);
    return rc;
}
