/* volley inspect: what is in a model file, and what it would need. */
#include "cli/cli.h"
#include "cli/json_fields.h"
#include "cli/option_table.h"
#include "gguf/totals.h"
#include "kv/kv.h"
#include "model/config.h"
#include "model/repack.h"
#include "model/weights.h"
#include "store/store.h"
#include "text/tokenizer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_ITEMS  8  /* of an array */
#define SHOWN_BYTES  72 /* of a string, in the listing for people */
#define MAX_PROBLEMS 3

typedef struct {
    const vly_gguf *gguf;
    const vly_arch *arch; /* described by a file, or NULL */
    vly_gguf_totals totals;
    /* Of the weights as they are laid out on a device, and on one with matrix units; 0: not known
     */
    uint64_t device_bytes, tiled_bytes;
    /* Of the KV cache; where kv_unknown.code is not 0 its message says why they are not known. */
    vly_error kv_unknown;
    uint32_t context, window; /* window: of all layers; 0: they see all of the context */
    uint64_t int8_token_bytes, f16_token_bytes, int8_context_bytes, f16_context_bytes;
    vly_error problems[MAX_PROBLEMS]; /* why Volley does not run the model */
    size_t n_problems;
} inspection;

static void count_tensors(inspection *in)
{
    in->totals = vly_gguf_count(in->gguf);
    for (size_t i = 0; i < vly_gguf_n_tensors(in->gguf); i++) {
        const vly_gguf_tensor *t = vly_gguf_tensor_at(in->gguf, i);
        const vly_format *format = t->format;
        uint64_t row_bytes = t->dims[0] / format->block_weights * format->block_bytes;
        const vly_layout *layout = vly_layout_of(format->id);
        uint64_t blocks = (t->dims[0] + 31) / 32;
        uint64_t device_row_bytes = layout ? vly_layout_parts_bytes(layout, blocks) +
                                                 vly_layout_scales_bytes(layout, blocks)
                                           : (row_bytes + 15) / 16 * 16;
        in->device_bytes += device_row_bytes * (t->n_bytes / row_bytes);
    }
}

/* Reads the number "ARCHITECTURE.name"; a missing one is `fallback`, unless that is 0. */
static int read_shape(const inspection *in, vly_bytes architecture, const char *name,
                      uint32_t fallback, uint32_t *out, vly_error *err)
{
    char key[256];
    snprintf(key, sizeof key, "%.*s.%s", (int)(architecture.len < 64 ? architecture.len : 64),
             architecture.data, name);
    if (fallback) return vly_gguf_u32_or(in->gguf, key, fallback, out, err);
    return vly_gguf_u32(in->gguf, key, out, err);
}

/* a * b * c; false where that does not fit. */
static bool product(uint64_t a, uint64_t b, uint64_t c, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out) && !__builtin_mul_overflow(*out, c, out);
}

static int measure_kv(inspection *in, vly_bytes architecture, vly_error *err)
{
    uint32_t n_layers, width, n_heads, n_kv_heads, key_length, value_length;
    int rc = read_shape(in, architecture, "block_count", 0, &n_layers, err);
    if (rc == 0) rc = read_shape(in, architecture, "context_length", 0, &in->context, err);
    if (rc == 0) rc = read_shape(in, architecture, "embedding_length", 0, &width, err);
    if (rc == 0) rc = read_shape(in, architecture, "attention.head_count", 0, &n_heads, err);
    if (rc) return rc;
    if (n_heads == 0)
        return vly_fail(err, VLY_E_FORMAT, "attention.head_count: expected 1 or more, got 0");
    uint32_t length = width / n_heads;
    rc = read_shape(in, architecture, "attention.head_count_kv", n_heads, &n_kv_heads, err);
    if (rc == 0)
        rc = read_shape(in, architecture, "attention.key_length", length, &key_length, err);
    if (rc == 0)
        rc = read_shape(in, architecture, "attention.value_length", length, &value_length, err);
    if (rc) return rc;
    /* Heads take multiples of 16. */
    uint64_t lengths =
        ((uint64_t)key_length + 15) / 16 * 16 + ((uint64_t)value_length + 15) / 16 * 16;
    vly_kv_shape shape = {.slot_tokens = in->context, .window = in->window};
    uint64_t n_slots = (uint64_t)vly_kv_slot_pages(&shape) * VLY_PAGE_TOKENS;
    /* int8 has an f16 scale for each key and each value. */
    if (!product(n_layers, n_kv_heads, lengths + 4, &in->int8_token_bytes) ||
        !product(n_layers, n_kv_heads, lengths * 2, &in->f16_token_bytes) ||
        !product(in->int8_token_bytes, n_slots, 1, &in->int8_context_bytes) ||
        !product(in->f16_token_bytes, n_slots, 1, &in->f16_context_bytes))
        return vly_fail(err, VLY_E_FORMAT,
                        "the model's shape is absurd: %" PRIu32 " layers of %" PRIu32
                        " KV heads of %" PRIu64 ", context %" PRIu32,
                        n_layers, n_kv_heads, lengths, in->context);
    return 0;
}

/* Of a model that runs: a device that sets no limits tells how the weights would lie. */
static uint64_t measure_tiles(const vly_gguf *gguf, const vly_model_config *config)
{
    const vly_gpu_info info = {.max_buffer_bytes = UINT64_MAX, .max_allocation_bytes = UINT64_MAX};
    vly_weights weights;
    vly_error err = {0};
    if (vly_weights_plan(gguf, config, &info, NULL, 0, true, &weights, &err)) return 0;
    uint64_t n_bytes = weights.n_bytes;
    vly_weights_deinit(NULL, &weights);
    return n_bytes;
}

/* Finds why Volley does not run the model, if so. */
static void find_problems(inspection *in)
{
    vly_model_config config;
    vly_error *problem = in->problems;
    if (in->totals.all.n_tensors == 0)
        vly_fail(problem++, VLY_E_UNSUPPORTED, "it has no tensors: a vocabulary only");
    else if (vly_model_check(in->gguf, in->arch, &config, problem))
        problem++;
    else {
        in->window = vly_config_all_windowed(&config) ? config.window : 0;
        in->tiled_bytes = measure_tiles(in->gguf, &config);
    }
    vly_tokenizer *tokenizer;
    if (in->totals.all.n_tensors && vly_tokenizer_create(in->gguf, &tokenizer, problem))
        problem++;
    else if (in->totals.all.n_tensors)
        vly_tokenizer_destroy(tokenizer);
    char missing[256] = "";
    for (size_t i = 0; i < VLY_N_FORMATS; i++) {
        const vly_format *format = vly_format_by_id((vly_format_id)i);
        size_t n = strlen(missing);
        if (in->totals.by_format[i].n_tensors && !format->dequantize)
            snprintf(missing + n, sizeof missing - n, " %s", format->name);
    }
    if (missing[0])
        vly_fail(problem++, VLY_E_UNSUPPORTED,
                 "tensors of formats that cannot be computed with:%s (those that can: %s)", missing,
                 vly_format_computable_names());
    in->n_problems = (size_t)(problem - in->problems);
}

static void inspect(const vly_gguf *gguf, const vly_arch *arch, inspection *in)
{
    *in = (inspection){.gguf = gguf, .arch = arch};
    count_tensors(in);
    find_problems(in);
    vly_bytes architecture = {0};
    int rc = vly_gguf_string(gguf, "general.architecture", &architecture, &in->kv_unknown);
    if (rc == 0) measure_kv(in, architecture, &in->kv_unknown);
}

static vly_bytes bytes_of(const char *text)
{
    return (vly_bytes){text, strlen(text)};
}

/* Item `i` of an array as if it were an entry of its own. */
static vly_gguf_entry item_of(const vly_gguf *gguf, const vly_gguf_entry *array, uint64_t i)
{
    vly_gguf_entry item = {.key = array->key, .type = array->item_type};
    if (item.type == VLY_GGUF_STRING)
        item.value.string = vly_gguf_string_at(gguf, array, i);
    else if (item.type == VLY_GGUF_F32 || item.type == VLY_GGUF_F64)
        item.value.f = vly_gguf_float_at(array, i);
    else
        item.value.i = vly_gguf_int_at(array, i);
    return item;
}

/* A number or bool as both listings write it; floats with as few digits as tell them apart. */
static void format_number(const vly_gguf_entry *entry, char *text, size_t n)
{
    switch (entry->type) {
    case VLY_GGUF_BOOL:
        snprintf(text, n, "%s", entry->value.u ? "true" : "false");
        break;
    case VLY_GGUF_F32:
    case VLY_GGUF_F64:
        for (int digits = 6; digits <= 17; digits++) {
            snprintf(text, n, "%.*g", digits, entry->value.f);
            if (entry->type == VLY_GGUF_F32 ? strtof(text, NULL) == (float)entry->value.f
                                            : strtod(text, NULL) == entry->value.f)
                break;
        }
        break;
    case VLY_GGUF_I8:
    case VLY_GGUF_I16:
    case VLY_GGUF_I32:
    case VLY_GGUF_I64:
        snprintf(text, n, "%" PRId64, entry->value.i);
        break;
    default:
        snprintf(text, n, "%" PRIu64, entry->value.u);
    }
}

/* ---- the listing for people ---- */

/* Prints `bytes`, made printable, in a column of `width`. */
static void print_column(vly_bytes bytes, int width)
{
    char *text = vly_cli_printable(bytes);
    printf("%-*s", width, text ? text : "");
    free(text);
}

/* In double quotes, and cut. */
static void print_string(vly_bytes bytes)
{
    vly_bytes shown = {bytes.data, bytes.len < SHOWN_BYTES ? bytes.len : SHOWN_BYTES};
    /* Not within a character. */
    while (shown.len < bytes.len && shown.len > 0 && (bytes.data[shown.len] & 0xc0) == 0x80)
        shown.len--;
    putchar('"');
    print_column(shown, 0);
    putchar('"');
    if (shown.len < bytes.len) printf("... (%zu bytes)", bytes.len);
}

static void print_scalar(const vly_gguf_entry *entry)
{
    if (entry->type == VLY_GGUF_STRING) {
        print_string(entry->value.string);
        return;
    }
    char text[40];
    format_number(entry, text, sizeof text);
    printf("%s", text);
}

static void print_entry(const vly_gguf *gguf, const vly_gguf_entry *entry)
{
    printf("  ");
    print_column(entry->key, 40);
    putchar(' ');
    if (entry->type != VLY_GGUF_ARRAY) {
        print_scalar(entry);
    } else {
        printf("[%" PRIu64 "] ", entry->count);
        for (uint64_t i = 0; i < entry->count && i < SHOWN_ITEMS; i++) {
            vly_gguf_entry item = item_of(gguf, entry, i);
            if (i) printf(", ");
            print_scalar(&item);
        }
        if (entry->count > SHOWN_ITEMS) printf(", ...");
    }
    putchar('\n');
}

static void print_bytes(const char *label, uint64_t n)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double scaled = (double)n;
    size_t unit = 0;
    while (scaled >= 1024 && unit + 1 < sizeof units / sizeof units[0]) scaled /= 1024, unit++;
    printf("  %-40s %.*f %s\n", label, unit ? 1 : 0, scaled, units[unit]);
}

static void print_totals(const char *label, const vly_totals *t)
{
    printf("  %-40s %" PRIu64 " tensors, %" PRIu64 " weights, %" PRIu64 " bytes", label,
           t->n_tensors, t->n_weights, t->n_bytes);
    if (t->n_weights)
        printf(" (%.2f bits a weight)", 8.0 * (double)t->n_bytes / (double)t->n_weights);
    putchar('\n');
}

static void print_memory(const inspection *in)
{
    printf("\nMemory, about:\n");
    print_bytes("weights", in->device_bytes);
    if (in->tiled_bytes) print_bytes("weights, with matrix units", in->tiled_bytes);
    if (in->kv_unknown.code) {
        printf("  %-40s not known: ", "KV cache");
        print_column(bytes_of(in->kv_unknown.message), 0);
        putchar('\n');
        return;
    }
    char label[64];
    print_bytes("KV cache, one token, int8", in->int8_token_bytes);
    print_bytes("KV cache, one token, f16", in->f16_token_bytes);
    snprintf(label, sizeof label, "KV cache, %" PRIu32 " tokens, int8", in->context);
    print_bytes(label, in->int8_context_bytes);
    snprintf(label, sizeof label, "KV cache, %" PRIu32 " tokens, f16", in->context);
    print_bytes(label, in->f16_context_bytes);
}

static void print_tensors(const vly_gguf *gguf)
{
    for (size_t i = 0; i < vly_gguf_n_tensors(gguf); i++) {
        const vly_gguf_tensor *t = vly_gguf_tensor_at(gguf, i);
        char dims[100];
        int n = 0;
        for (uint32_t d = 0; d < t->n_dims; d++)
            n += snprintf(dims + n, sizeof dims - (size_t)n, "%s%" PRIu64, d ? " x " : "",
                          t->dims[d]);
        printf("  ");
        print_column(t->name, 40);
        printf(" %-8s %-20s %" PRIu64 " bytes", t->format->name, dims, t->n_bytes);
        if (vly_gguf_n_parts(gguf) > 1) printf(", part %" PRIu32, t->part + 1);
        putchar('\n');
    }
}

static void print_listing(const inspection *in)
{
    const vly_gguf *gguf = in->gguf;
    printf("%s: GGUF version %" PRIu32 ", %" PRIu64 " bytes\n", vly_gguf_path(gguf),
           vly_gguf_version(gguf), vly_gguf_file_bytes(gguf));
    for (uint32_t i = 1; i < vly_gguf_n_parts(gguf); i++)
        printf("%s: part %" PRIu32 " of %" PRIu32 "\n", vly_gguf_part_path(gguf, i), i + 1,
               vly_gguf_n_parts(gguf));
    printf("\nMetadata (%zu):\n", vly_gguf_n_entries(gguf));
    for (size_t i = 0; i < vly_gguf_n_entries(gguf); i++)
        print_entry(gguf, vly_gguf_entry_at(gguf, i));
    printf("\nTensors (%zu), contiguous dimension first:\n", vly_gguf_n_tensors(gguf));
    print_tensors(gguf);
    printf("\nTotals:\n");
    for (size_t i = 0; i < VLY_N_FORMATS; i++)
        if (in->totals.by_format[i].n_tensors)
            print_totals(vly_format_by_id((vly_format_id)i)->name, &in->totals.by_format[i]);
    print_totals("all", &in->totals.all);
    print_memory(in);
    printf("\nVolley %s.\n", in->n_problems ? "does not run this model" : "runs this model");
    for (size_t i = 0; i < in->n_problems; i++) {
        printf("  ");
        print_column(bytes_of(in->problems[i].message), 0);
        putchar('\n');
    }
}

/* ---- JSON ---- */

static cJSON *string_to_json(vly_bytes bytes)
{
    char *text = vly_cli_utf8(bytes);
    cJSON *json = text ? cJSON_CreateString(text) : NULL;
    free(text);
    return json;
}

static cJSON *scalar_to_json(const vly_gguf_entry *entry)
{
    if (entry->type == VLY_GGUF_STRING) return string_to_json(entry->value.string);
    bool is_float = entry->type == VLY_GGUF_F32 || entry->type == VLY_GGUF_F64;
    if (is_float && !isfinite(entry->value.f)) return cJSON_CreateNull();
    char text[40];
    format_number(entry, text, sizeof text);
    return cJSON_CreateRaw(text);
}

static cJSON *entry_to_json(const vly_gguf *gguf, const vly_gguf_entry *entry)
{
    if (entry->type != VLY_GGUF_ARRAY) return scalar_to_json(entry);
    cJSON *json = cJSON_CreateObject();
    vly_cli_json_add_count(json, "count", entry->count);
    cJSON *first = cJSON_AddArrayToObject(json, "first");
    for (uint64_t i = 0; i < entry->count && i < SHOWN_ITEMS; i++) {
        vly_gguf_entry item = item_of(gguf, entry, i);
        cJSON_AddItemToArray(first, scalar_to_json(&item));
    }
    return json;
}

static cJSON *metadata_to_json(const vly_gguf *gguf)
{
    cJSON *json = cJSON_CreateObject();
    for (size_t i = 0; i < vly_gguf_n_entries(gguf); i++) {
        const vly_gguf_entry *entry = vly_gguf_entry_at(gguf, i);
        char *key = vly_cli_utf8(entry->key);
        cJSON_AddItemToObject(json, key ? key : "", entry_to_json(gguf, entry));
        free(key);
    }
    return json;
}

static cJSON *tensors_to_json(const vly_gguf *gguf)
{
    cJSON *json = cJSON_CreateArray();
    for (size_t i = 0; i < vly_gguf_n_tensors(gguf); i++) {
        const vly_gguf_tensor *t = vly_gguf_tensor_at(gguf, i);
        cJSON *tensor = cJSON_CreateObject();
        cJSON_AddItemToObject(tensor, "name", string_to_json(t->name));
        cJSON_AddStringToObject(tensor, "format", t->format->name);
        cJSON *dims = cJSON_AddArrayToObject(tensor, "dims");
        for (uint32_t d = 0; d < t->n_dims; d++) {
            vly_gguf_entry dim = {.type = VLY_GGUF_U64, .value.u = t->dims[d]};
            cJSON_AddItemToArray(dims, scalar_to_json(&dim));
        }
        if (vly_gguf_n_parts(gguf) > 1) vly_cli_json_add_count(tensor, "part", t->part + 1);
        vly_cli_json_add_count(tensor, "offset", t->offset);
        vly_cli_json_add_count(tensor, "bytes", t->n_bytes);
        cJSON_AddItemToArray(json, tensor);
    }
    return json;
}

static void add_totals(cJSON *json, const vly_totals *t)
{
    vly_cli_json_add_count(json, "tensors", t->n_tensors);
    vly_cli_json_add_count(json, "weights", t->n_weights);
    vly_cli_json_add_count(json, "bytes", t->n_bytes);
}

static cJSON *totals_to_json(const inspection *in)
{
    cJSON *json = cJSON_CreateObject();
    add_totals(json, &in->totals.all);
    cJSON *formats = cJSON_AddObjectToObject(json, "formats");
    for (size_t i = 0; i < VLY_N_FORMATS; i++)
        if (in->totals.by_format[i].n_tensors)
            add_totals(cJSON_AddObjectToObject(formats, vly_format_by_id((vly_format_id)i)->name),
                       &in->totals.by_format[i]);
    return json;
}

/* {"token": bytes, "context": bytes} */
static void add_kv(cJSON *json, const char *name, uint64_t token_bytes, uint64_t context_bytes)
{
    cJSON *kv = cJSON_AddObjectToObject(json, name);
    vly_cli_json_add_count(kv, "token", token_bytes);
    vly_cli_json_add_count(kv, "context", context_bytes);
}

static cJSON *memory_to_json(const inspection *in)
{
    cJSON *json = cJSON_CreateObject();
    vly_cli_json_add_count(json, "weights", in->device_bytes);
    if (in->tiled_bytes)
        vly_cli_json_add_count(json, "weights_tiled", in->tiled_bytes);
    else
        cJSON_AddNullToObject(json, "weights_tiled");
    if (in->kv_unknown.code) {
        cJSON_AddNullToObject(json, "context_tokens");
        cJSON_AddNullToObject(json, "kv_int8");
        cJSON_AddNullToObject(json, "kv_f16");
        return json;
    }
    vly_cli_json_add_count(json, "context_tokens", in->context);
    add_kv(json, "kv_int8", in->int8_token_bytes, in->int8_context_bytes);
    add_kv(json, "kv_f16", in->f16_token_bytes, in->f16_context_bytes);
    return json;
}

static int print_json(const inspection *in, vly_error *err)
{
    const vly_gguf *gguf = in->gguf;
    const char *path = vly_gguf_path(gguf);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddItemToObject(json, "file", string_to_json(bytes_of(path)));
    vly_cli_json_add_count(json, "parts", vly_gguf_n_parts(gguf));
    vly_cli_json_add_count(json, "version", vly_gguf_version(gguf));
    vly_cli_json_add_count(json, "bytes", vly_gguf_file_bytes(gguf));
    cJSON_AddItemToObject(json, "metadata", metadata_to_json(gguf));
    cJSON_AddItemToObject(json, "tensors", tensors_to_json(gguf));
    cJSON_AddItemToObject(json, "totals", totals_to_json(in));
    cJSON_AddItemToObject(json, "memory", memory_to_json(in));
    cJSON_AddBoolToObject(json, "runs", in->n_problems == 0);
    cJSON *problems = cJSON_AddArrayToObject(json, "problems");
    for (size_t i = 0; i < in->n_problems; i++) {
        cJSON_AddItemToArray(problems, string_to_json(bytes_of(in->problems[i].message)));
    }
    return vly_cli_json_print(json, err);
}

/* ---- the command ---- */

typedef struct {
    const char *model, *arch;
    bool json;
} options;

#define AT(field) offsetof(options, field)
static const vly_option_row rows[] = {
    {1, 0, "arch", NULL, "FILE", &vly_option_text, AT(arch), 0, 0, VLY_HELP_ARCH},
    {1, 0, "json", NULL, NULL, &vly_option_flag, AT(json), 0, 0,
     "print one JSON object: file, parts, version, bytes, metadata (of an array: its count and "
     "first items), tensors, totals, memory (bytes; weights_tiled: on devices with matrix units), "
     "runs and problems"},
    {1, 'h', "help", NULL, NULL, &vly_option_help, 0, 0, 0, "show this help"},
};
static const vly_option_operand model = {"MODEL", AT(model)};

static int print(const options *o, vly_error *err)
{
    vly_gguf *gguf;
    vly_arch arch;
    inspection in;
    int rc = o->arch ? vly_arch_read(o->arch, &arch, err) : 0;
    if (!rc) rc = vly_store_open(o->model, &gguf, err);
    if (rc) return rc;
    inspect(gguf, o->arch ? &arch : NULL, &in);
    if (o->json)
        rc = print_json(&in, err);
    else
        print_listing(&in);
    vly_gguf_close(gguf);
    return rc;
}

int vly_cli_inspect(int argc, char **argv)
{
    options o = {0};
    const vly_option_table table = {
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .operands = &model,
        .n_operands = 1,
        .command = 1,
        .intro = "usage: volley inspect MODEL [OPTION...]\n\n"
                 "Shows the metadata and tensors of a model, a file or a name, their formats and\n"
                 "sizes, and what the model would need in memory.\n\n",
        .default_values = &(options){0}};
    int status = vly_option_table_parse(&table, argc, argv, &o);
    vly_error err;
    if (!status && print(&o, &err)) status = vly_cli_fail(&err);
    return status < 0 ? 0 : status;
}
