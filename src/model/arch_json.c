/* Descriptions of architectures in JSON. The format: docs/models.md. */
#include "gguf/quote.h"
#include "model/arch.h"
#include "text/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MAX_BYTES  (1 << 20)
#define MAX_WINDOW (1 << 24)

typedef struct {
    const char *source;
    vly_arch *arch;
    vly_error *err;
} reader;

/* Reads the value of one key; `item->string` is the key. */
typedef int read_fn(reader *r, const cJSON *item);

static vly_bytes bytes_of(const char *text)
{
    return (vly_bytes){text, strlen(text)};
}

static const char *type_name(const cJSON *item)
{
    return cJSON_IsString(item)   ? "a string"
           : cJSON_IsNumber(item) ? "a number"
           : cJSON_IsBool(item)   ? "true or false"
           : cJSON_IsObject(item) ? "an object"
           : cJSON_IsArray(item)  ? "an array"
                                  : "null";
}

static int type_error(const reader *r, const cJSON *item, const char *expected)
{
    return vly_fail(r->err, VLY_E_FORMAT, "%s: key %s: expected %s, got %s", r->source,
                    vly_quote(bytes_of(item->string)).text, expected, type_name(item));
}

static int value_error(const reader *r, const cJSON *item, const char *expected)
{
    return vly_fail(r->err, VLY_E_FORMAT, "%s: key %s: expected %s, got %s", r->source,
                    vly_quote(bytes_of(item->string)).text, expected,
                    vly_quote(bytes_of(item->valuestring)).text);
}

static int key_error(const reader *r, const char *why, const cJSON *item, const char *expected)
{
    return vly_fail(r->err, VLY_E_FORMAT, "%s: %s key %s; expected %s", r->source, why,
                    vly_quote(bytes_of(item->string)).text, expected);
}

/* Has the object that holds it the same key before? */
static bool is_repeated(const cJSON *object, const cJSON *item)
{
    for (const cJSON *i = object->child; i != item; i = i->next)
        if (strcmp(i->string, item->string) == 0) return true;
    return false;
}

/* A string of printable ASCII that `out` [n] has room for. */
static int read_name(reader *r, const cJSON *item, char *out, size_t n)
{
    char expected[64];
    snprintf(expected, sizeof expected, "1 to %zu printable characters", n - 1);
    if (!cJSON_IsString(item)) return type_error(r, item, "a string");
    size_t len = strlen(item->valuestring);
    bool printable = true;
    for (size_t i = 0; i < len; i++)
        if (item->valuestring[i] <= ' ' || item->valuestring[i] > '~') printable = false;
    if (len == 0 || len >= n || !printable) return value_error(r, item, expected);
    memcpy(out, item->valuestring, len + 1);
    return 0;
}

/* One of the `n` words: its index to *out. */
static int read_word(reader *r, const cJSON *item, const char *const *words, int n, int *out)
{
    char expected[96] = "";
    for (int i = 0; i < n; i++) {
        if (cJSON_IsString(item) && strcmp(item->valuestring, words[i]) == 0) {
            *out = i;
            return 0;
        }
        size_t len = strlen(expected);
        snprintf(expected + len, sizeof expected - len, "%s\"%s\"", i ? " or " : "", words[i]);
    }
    if (!cJSON_IsString(item)) return type_error(r, item, expected);
    return value_error(r, item, expected);
}

/* ---- keys ---- */

static int find_tensor(const reader *r, const cJSON *item, bool biasable, vly_tensor_id *out)
{
    char expected[320] = "one of:";
    for (int i = 0; i < VLY_N_TENSORS; i++) {
        if (biasable && !vly_tensor_is_biasable(i)) continue;
        if (strcmp(item->string, vly_tensor_kinds[i].key) == 0) {
            *out = i;
            return 0;
        }
        size_t len = strlen(expected);
        snprintf(expected + len, sizeof expected - len, " %s", vly_tensor_kinds[i].key);
    }
    return key_error(r, "unknown", item, expected);
}

static int read_tensor_name(reader *r, const cJSON *item)
{
    vly_tensor_id id;
    int rc = find_tensor(r, item, false, &id);
    if (rc == 0) rc = read_name(r, item, r->arch->tensor[id], sizeof r->arch->tensor[id]);
    if (rc) return rc;
    const char *place = strstr(item->valuestring, "{}");
    bool again = place && strstr(place + 2, "{}");
    if (vly_tensor_is_layered(id) ? !place || again : place != NULL)
        return value_error(r, item,
                           vly_tensor_is_layered(id) ? "a name with one {} for the layer's number"
                                                     : "a name without {}: there is only one");
    return 0;
}

static int read_bias(reader *r, const cJSON *item)
{
    static const char *const words[] = {"optional", "required"};
    vly_tensor_id id;
    int word, rc = find_tensor(r, item, true, &id);
    if (rc == 0) rc = read_word(r, item, words, 2, &word);
    if (rc == 0) r->arch->bias[id] = word ? VLY_NEED_REQUIRED : VLY_NEED_OPTIONAL;
    return rc;
}

static int read_arch_name(reader *r, const cJSON *item)
{
    return read_name(r, item, r->arch->name, sizeof r->arch->name);
}

static int read_rope(reader *r, const cJSON *item)
{
    static const char *const words[] = {"pairs", "halves"};
    int word, rc = read_word(r, item, words, 2, &word);
    if (rc == 0) r->arch->rope = word ? VLY_ROPE_HALVES : VLY_ROPE_PAIRS;
    return rc;
}

static int read_norms(reader *r, const cJSON *item)
{
    static const char *const words[] = {
        [VLY_NORMS_PRE] = "pre", [VLY_NORMS_POST] = "post", [VLY_NORMS_BOTH] = "both"};
    int word, rc = read_word(r, item, words, 3, &word);
    if (rc == 0) r->arch->norms = (vly_norms)word;
    return rc;
}

static int read_qk_norm(reader *r, const cJSON *item)
{
    static const char *const words[] = {
        [VLY_QK_NORM_NONE] = "none", [VLY_QK_NORM_HEAD] = "head", [VLY_QK_NORM_ALL] = "all"};
    int word, rc = read_word(r, item, words, 3, &word);
    if (rc == 0) r->arch->qk_norm = (vly_qk_norm)word;
    return rc;
}

static int read_head(reader *r, const cJSON *item)
{
    static const char *const words[] = {
        [VLY_HEAD_EITHER] = "either", [VLY_HEAD_OWN] = "own", [VLY_HEAD_TIED] = "tied"};
    int word, rc = read_word(r, item, words, 3, &word);
    if (rc == 0) r->arch->head = (vly_head)word;
    return rc;
}

static int read_window_size(reader *r, const cJSON *item)
{
    double value = cJSON_IsNumber(item) ? item->valuedouble : 0;
    if (!cJSON_IsNumber(item)) return type_error(r, item, "a number");
    if (!(value >= 1 && value <= MAX_WINDOW) || value != (double)(uint32_t)value)
        return vly_fail(r->err, VLY_E_FORMAT,
                        "%s: key 'size': expected a whole number, 1 to %d, got %g", r->source,
                        MAX_WINDOW, value);
    r->arch->window = (uint32_t)value;
    return 0;
}

static int read_window_layers(reader *r, const cJSON *item)
{
    const char *expected = "an array of 1 to 64 times true or false";
    if (!cJSON_IsArray(item)) return type_error(r, item, expected);
    const cJSON *layer;
    cJSON_ArrayForEach(layer, item)
    {
        if (!cJSON_IsBool(layer) || r->arch->n_pattern == VLY_MAX_PATTERN)
            return type_error(r, item, expected);
        r->arch->pattern[r->arch->n_pattern++] = cJSON_IsTrue(layer);
    }
    return r->arch->n_pattern ? 0 : type_error(r, item, expected);
}

/* ---- objects ---- */

typedef struct {
    const char *key;
    read_fn *read;
    bool required;
} field;

/* Reads an object whose keys are the `n` fields' and no others. */
static int read_fields(reader *r, const cJSON *object, const field *fields, size_t n)
{
    char expected[256] = "one of:";
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(expected);
        snprintf(expected + len, sizeof expected - len, " %s", fields[i].key);
        if (fields[i].required && !cJSON_GetObjectItemCaseSensitive(object, fields[i].key))
            return vly_fail(r->err, VLY_E_FORMAT, "%s: key '%s' is missing", r->source,
                            fields[i].key);
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, object)
    {
        size_t i = 0;
        while (i < n && strcmp(fields[i].key, item->string) != 0) i++;
        if (i == n) return key_error(r, "unknown", item, expected);
        if (is_repeated(object, item)) return key_error(r, "repeated", item, "it once");
        int rc = fields[i].read(r, item);
        if (rc) return rc;
    }
    return 0;
}

static int read_each(reader *r, const cJSON *object, read_fn *read)
{
    if (!cJSON_IsObject(object)) return type_error(r, object, "an object");
    const cJSON *item;
    cJSON_ArrayForEach(item, object)
    {
        if (is_repeated(object, item)) return key_error(r, "repeated", item, "it once");
        int rc = read(r, item);
        if (rc) return rc;
    }
    return 0;
}

static int read_tensors(reader *r, const cJSON *item)
{
    return read_each(r, item, read_tensor_name);
}

static int read_biases(reader *r, const cJSON *item)
{
    return read_each(r, item, read_bias);
}

static int read_window(reader *r, const cJSON *item)
{
    static const field fields[] = {{"size", read_window_size, false},
                                   {"layers", read_window_layers, false}};
    if (!cJSON_IsObject(item)) return type_error(r, item, "an object");
    return read_fields(r, item, fields, sizeof fields / sizeof *fields);
}

int vly_arch_parse(const char *source, const char *json, size_t len, vly_arch *out, vly_error *err)
{
    static const field fields[] = {
        {"name", read_arch_name, true}, {"rope", read_rope, true},
        {"norms", read_norms, false},   {"qk_norm", read_qk_norm, false},
        {"biases", read_biases, false}, {"window", read_window, false},
        {"head", read_head, false},     {"tensors", read_tensors, false},
    };
    *out = (vly_arch){0};
    reader r = {source, out, err};
    cJSON *root;
    int rc = vly_json_parse(json, len, &root, err);
    if (rc) return vly_fail_within(err, "%s", source);
    if (cJSON_IsObject(root))
        rc = read_fields(&r, root, fields, sizeof fields / sizeof *fields);
    else
        rc = vly_fail(err, VLY_E_FORMAT, "%s: expected an object, got %s", source, type_name(root));
    cJSON_Delete(root);
    return rc;
}

int vly_arch_read(const char *path, vly_arch *out, vly_error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return vly_fail(err, errno == ENOENT ? VLY_E_NOT_FOUND : VLY_E_IO, "cannot open %s: %s",
                        path, strerror(errno));
    char chunk[4096];
    vly_text text = {0};
    int rc = vly_text_append(&text, "", 0);
    for (size_t n; rc == 0 && text.len <= MAX_BYTES && (n = fread(chunk, 1, sizeof chunk, file));)
        rc = vly_text_append(&text, chunk, n);
    if (rc)
        vly_fail(err, rc, "no memory for %s", path);
    else if (ferror(file))
        rc = vly_fail(err, VLY_E_IO, "cannot read %s: %s", path, strerror(errno));
    else if (text.len > MAX_BYTES)
        rc = vly_fail(err, VLY_E_FORMAT, "%s: expected at most %d bytes", path, MAX_BYTES);
    else
        rc = vly_arch_parse(path, text.data, text.len, out, err);
    fclose(file);
    vly_text_free(&text);
    return rc;
}
