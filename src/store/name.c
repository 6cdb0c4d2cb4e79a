#include "store/name.h"

#include "gguf/quote.h"

#include <stdio.h>
#include <string.h>

#define DEFAULT_REGISTRY  "registry.ollama.ai"
#define DEFAULT_NAMESPACE "library"
#define DEFAULT_TAG       "latest"

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool is_part(const char *text, size_t n, vly_name_part part)
{
    if (n == 0 || n > (part == VLY_NAME_REGISTRY ? VLY_MAX_REGISTRY : VLY_MAX_NAME_PART) ||
        !is_word(text[0]))
        return false;
    for (size_t i = 1; i < n; i++)
        if (!is_word(text[i]) && text[i] != '-' && text[i] != '.' &&
            !(text[i] == ':' && part == VLY_NAME_REGISTRY))
            return false;
    return true;
}

static char *field_of(vly_model_name *name, vly_name_part part)
{
    switch (part) {
    case VLY_NAME_REGISTRY:
        return name->registry;
    case VLY_NAME_NAMESPACE:
        return name->namespace;
    case VLY_NAME_MODEL:
        return name->model;
    default:
        return name->tag;
    }
}

static int set(vly_model_name *name, vly_name_part part, const char *text, size_t n, vly_error *err)
{
    static const char *const names[] = {"registry", "namespace", "model", "tag"};
    if (!is_part(text, n, part))
        return vly_fail(err, VLY_E_INVALID,
                        "expected [[REGISTRY/]NAMESPACE/]MODEL[:TAG], got the %s %s", names[part],
                        vly_quote((vly_bytes){text, n}).text);
    char *field = field_of(name, part);
    memcpy(field, text, n);
    field[n] = '\0';
    return 0;
}

bool vly_model_name_set(vly_model_name *name, vly_name_part part, const char *text)
{
    return set(name, part, text, strlen(text), NULL) == 0;
}

int vly_model_name_parse(const char *text, vly_model_name *out, vly_error *err)
{
    *out = (vly_model_name){DEFAULT_REGISTRY, DEFAULT_NAMESPACE, "", DEFAULT_TAG};
    /* From the end: only the last part has a tag, as a registry may have a port. */
    const char *slash = strrchr(text, '/'), *model = slash ? slash + 1 : text;
    size_t n_model = strcspn(model, ":");
    int rc = 0;
    if (model[n_model])
        rc = set(out, VLY_NAME_TAG, model + n_model + 1, strlen(model + n_model + 1), err);
    if (rc == 0) rc = set(out, VLY_NAME_MODEL, model, n_model, err);
    if (rc || !slash) return rc;
    const char *first = memchr(text, '/', (size_t)(slash - text));
    const char *namespace = first ? first + 1 : text;
    rc = set(out, VLY_NAME_NAMESPACE, namespace, (size_t)(slash - namespace), err);
    if (rc == 0 && first) rc = set(out, VLY_NAME_REGISTRY, text, (size_t)(first - text), err);
    return rc;
}

void vly_model_name_format(const vly_model_name *name, char out[VLY_MAX_MODEL_NAME])
{
    bool own_registry = strcmp(name->registry, DEFAULT_REGISTRY) != 0;
    bool own_namespace = own_registry || strcmp(name->namespace, DEFAULT_NAMESPACE) != 0;
    snprintf(out, VLY_MAX_MODEL_NAME, "%s%s%s%s%s:%s", own_registry ? name->registry : "",
             own_registry ? "/" : "", own_namespace ? name->namespace : "",
             own_namespace ? "/" : "", name->model, name->tag);
}
