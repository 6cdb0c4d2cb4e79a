/* Names as Ollama writes them: [[REGISTRY/]NAMESPACE/]MODEL[:TAG]. */
#ifndef VLY_STORE_NAME_H
#define VLY_STORE_NAME_H

#include "base/error.h"

#define VLY_MAX_REGISTRY  350 /* bytes */
#define VLY_MAX_NAME_PART 128

/* Parts begin with a letter, a digit or '_', and go on with these, '-', '.' and, in registries,
 * ':'. So none can be "..", hold a '/' or be empty, and a path made of them leads nowhere else. */
typedef struct {
    char registry[VLY_MAX_REGISTRY + 1];
    char namespace[VLY_MAX_NAME_PART + 1];
    char model[VLY_MAX_NAME_PART + 1];
    char tag[VLY_MAX_NAME_PART + 1];
} vly_model_name;

typedef enum {
    VLY_NAME_REGISTRY,
    VLY_NAME_NAMESPACE,
    VLY_NAME_MODEL,
    VLY_NAME_TAG,
    VLY_N_NAME_PARTS
} vly_name_part;

/* Parts that are left out are "registry.ollama.ai", "library" and "latest". VLY_E_INVALID says
 * which part is wrong. */
int vly_model_name_parse(const char *text, vly_model_name *out, vly_error *err);

/* Sets one part; false where `text` is none. */
bool vly_model_name_set(vly_model_name *name, vly_name_part part, const char *text);

#define VLY_MAX_MODEL_NAME (VLY_MAX_REGISTRY + 3 * (VLY_MAX_NAME_PART + 1) + 1)

/* Writes the name with its tag, without the registry and namespace that it has by default. */
void vly_model_name_format(const vly_model_name *name, char out[VLY_MAX_MODEL_NAME]);

#endif
