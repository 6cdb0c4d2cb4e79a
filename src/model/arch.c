#include "model/arch.h"

#include <stdio.h>
#include <string.h>

static const vly_arch archs[] = {
#define VLY_ARCH(arch, ...) {.name = #arch, __VA_ARGS__},
#include "model/arch.def"
#undef VLY_ARCH
};

const vly_tensor_kind vly_tensor_kinds[VLY_N_TENSORS] = {
#define VLY_TENSOR(id, key, name, columns, rows) {key, name, VLY_DIM_##columns, VLY_DIM_##rows},
#include "model/tensors.def"
#undef VLY_TENSOR
};

const vly_arch *vly_arch_find(const char *name)
{
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (strcmp(archs[i].name, name) == 0) return &archs[i];
    return NULL;
}

#define VLY_ARCH(arch, ...) ", " #arch
static const char names[] =
#include "model/arch.def"
    ;
#undef VLY_ARCH

const char *vly_arch_names(void)
{
    return names + 2;
}

bool vly_tensor_is_layered(vly_tensor_id id)
{
    return strstr(vly_tensor_kinds[id].name, "{}") != NULL;
}

bool vly_tensor_is_biasable(vly_tensor_id id)
{
    return vly_tensor_is_layered(id) && vly_tensor_kinds[id].rows != VLY_DIM_ONE;
}

const char *vly_arch_tensor_name(const vly_arch *arch, vly_tensor_id id, uint32_t layer,
                                 const char *suffix, char out[VLY_FULL_NAME_CHARS])
{
    const char *name = arch->tensor[id][0] ? arch->tensor[id] : vly_tensor_kinds[id].name;
    const char *place = strstr(name, "{}");
    if (place)
        snprintf(out, VLY_FULL_NAME_CHARS, "%.*s%u%s%s", (int)(place - name), name, layer,
                 place + 2, suffix);
    else
        snprintf(out, VLY_FULL_NAME_CHARS, "%s%s", name, suffix);
    return out;
}
