/* The table of drafting methods. */
#include "drafts/draft.h"

static const struct {
    const char *name;
    vly_draft_create_fn *create;
    bool needs_model;
} methods[] = {
#define VLY_DRAFT_METHOD(id, name, create, needs_model, summary)                                   \
    [VLY_DRAFT_##id] = {name, create, needs_model},
#include "drafts/methods.def"
#undef VLY_DRAFT_METHOD
};

const char *vly_draft_method_name(vly_draft_method method)
{
    return (size_t)method < sizeof methods / sizeof *methods ? methods[method].name : NULL;
}

bool vly_draft_method_needs_model(vly_draft_method method)
{
    return vly_draft_method_name(method) && methods[method].needs_model;
}

int vly_draft_check(vly_draft_method method, bool has_model, vly_error *err)
{
    const char *name = vly_draft_method_name(method);
    if (!name) return vly_fail(err, VLY_E_INVALID, "there is no drafting method %d", (int)method);
    if (methods[method].needs_model && !has_model)
        return vly_fail(err, VLY_E_INVALID,
                        "drafting method '%s' needs a draft model, and none is loaded", name);
    return 0;
}

int vly_draft_create(vly_draft_method method, const vly_draft_source *source, vly_draft **out,
                     vly_error *err)
{
    int rc = vly_draft_check(method, source->model != NULL, err);
    return rc ? rc : methods[method].create(source, out, err);
}
