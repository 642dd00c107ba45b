/* lua_program.c: a plan as a Lua object, and its use by a start. */
#include "lua_value.h"

#include <stdlib.h>
#include <unistd.h>

enum {
    BLOCK = 16 << 10,
    MAX_PROGRAM = 16 << 20, /* as much as a start's arena has */
};

struct nsbL_block {
    struct nsbL_block *older;
    _Alignas(16) char at[];
};

void *nsbL_program_take(struct nsbL_program *p, size_t n)
{
    if (n > MAX_PROGRAM - p->taken) return NULL;
    n = (n + 15) & ~(size_t)15;
    p->taken += n;
    if (n > p->left) {
        size_t size = n > BLOCK ? n : BLOCK;
        struct nsbL_block *block = malloc(sizeof *block + size);
        if (!block) return NULL;
        block->older = p->block;
        p->block = block;
        p->left = size;
    }
    p->left -= n;
    return p->block->at + p->left;
}

static void bind_inputs(lua_State *L, const struct nsbL_program *p, int inputs, struct nsb_start *s)
{
    s->slot[NSB_SLOT_OWNER] = (int)getpid();
    for (int i = 0; i < p->ninputs; i++) {
        lua_getfield(L, inputs, p->input[i].name);
        int fd = nsbL_tofd(L, lua_gettop(L));
        if (fd < 0) luaL_error(L, "plan: step 0 inputs: %s: not an open descriptor", p->input[i].name);
        s->slot[p->input[i].slot] = fd;
        lua_pop(L, 1);
    }
}

static long param_word(struct nsbL_memory *m, const struct nsbL_param *param)
{
    lua_State *L = m->L;
    struct nsbL_field field = {.type = param->type};
    if (param->type == 'v') {
        if (!lua_istable(L, -1)) luaL_error(L, "plan: parameter '%s': a list expected", param->name);
        return (long)(intptr_t)nsbL_strings(m, lua_gettop(L));
    }
    struct nsbL_value v = nsbL_value(m, lua_gettop(L), &field);
    if (v.bad) luaL_error(L, "plan: parameter '%s': %s", param->name, v.bad);
    return v.word;
}

void nsbL_bind(lua_State *L, struct nsbL_program *p, int inputs, int params, struct nsb_launch *l)
{
    struct nsb_start *s = l->start;
    struct nsbL_memory m = {L, NULL, l};
    s->program = &p->plan;
    bind_inputs(L, p, inputs, s);
    s->param[NSB_PARAM_KEEP] = (long)(intptr_t)&s->keep;
    for (int i = NSB_PARAM_KEEP + 1; i < p->plan.nparams; i++) {
        lua_getfield(L, params, p->param[i].name);
        s->param[i] = param_word(&m, &p->param[i]);
        lua_pop(L, 1);
    }
}

/* compile(steps, inputs, flags) -> program: for any number of starts. `steps` are those of the child, the
 * keys of `inputs` the names of the descriptors each start brings, `flags` those of the first clone. Raises
 * for a bad plan. */
static int l_compile(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    nsbL_compile(L, 1, 2, (unsigned long)nsbL_checkflags(L, 3, "CLONE"));
    return 1;
}

static int l_free(lua_State *L)
{
    struct nsbL_program *p = luaL_checkudata(L, 1, NSBL_PROGRAM);
    while (p->block && !p->lost) {
        struct nsbL_block *block = p->block;
        p->block = block->older;
        free(block);
    }
    return 0;
}

void nsbL_open_program(lua_State *L)
{
    luaL_newmetatable(L, NSBL_PROGRAM);
    lua_pushcfunction(L, l_free);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_pushcfunction(L, l_compile);
    lua_setfield(L, -2, "compile");
}
