/* lua_plan.c: the steps of a plan, from Lua tables into a program for the child.
 *
 * A step: {"call", arguments…, out="slot", ok="ENOENT,…", expect=n or "@slot", index=n}; "@slot" stands
 * for a descriptor, {param="name"} for a value that each start brings. Control steps: {"clone", flags,
 * into="@cgroup"}, {"barrier", name, give={…}, take={…}}, {"vacate", number}, {"execve", {paths} or "@slot",
 * {argv}, {env}, give={slot}} and {"return", "@result", "@none"}, which comes back in the caller's copy.
 * Names become numbers here; use before set, double set and a slot never used raise. */
#include "lua_value.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct plan {
    lua_State *L;
    struct nsbL_program *program;
    struct nsbL_memory memory;
    int slots;  /* stack index: name -> number */
    int step;   /* stack index of the step at hand */
    int number; /* of the step at hand, in the whole plan */
    const char *call;
    int own_table; /* the plan so far ends in a process with descriptors of its own */
    char set[NSB_MAXSLOTS], used[NSB_MAXSLOTS]; /* what the plan so far does with its slots */
};

static int bad_step(struct plan *p, const char *what, const char *why)
{
    return luaL_error(p->L, "plan: step %d %s: %s: %s", p->number, p->call, what, why);
}

static int slot_number(struct plan *p, const char *name, int make)
{
    lua_State *L = p->L;
    struct nsb_program *s = &p->program->plan;
    int n = -1;
    if (lua_getfield(L, p->slots, name) == LUA_TNUMBER) n = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    if (n >= 0 || !make) return n;
    if (s->nslots == NSB_MAXSLOTS) bad_step(p, name, "too many slots");
    n = s->nslots++;
    lua_pushinteger(L, n);
    lua_setfield(L, p->slots, name);
    return n;
}

static int use_slot(struct plan *p, const char *name)
{
    int n = slot_number(p, name, 0);
    if (n < 0 || !p->set[n]) bad_step(p, name, "slot used before it is set");
    p->used[n] = 1;
    return n;
}

static int set_slot(struct plan *p, const char *name)
{
    int n = slot_number(p, name, 1);
    if (p->set[n]) bad_step(p, name, "slot set twice");
    p->set[n] = 1;
    return n;
}

/* A string "@name" where a descriptor or a number is expected. */
static const char *slot_name(lua_State *L, int idx)
{
    if (lua_type(L, idx) != LUA_TSTRING) return NULL;
    const char *s = lua_tostring(L, idx);
    return s[0] == '@' ? s + 1 : NULL;
}

static const char *keep_name(struct plan *p, const char *name)
{
    size_t size = strlen(name) + 1;
    return memcpy(nsbL_take(&p->memory, size), name, size);
}

/* The number of the parameter at the stack's top, or 0 if that is none. */
static int param_number(struct plan *p, char type)
{
    lua_State *L = p->L;
    struct nsbL_program *program = p->program;
    if (!lua_istable(L, -1)) return 0;
    int found = lua_getfield(L, -1, "param") == LUA_TSTRING, i = 1;
    const char *name = found ? lua_tostring(L, -1) : NULL;
    lua_pop(L, 1);
    if (!found) return 0;
    while (i < program->plan.nparams && strcmp(program->param[i].name, name) != 0) i++;
    if (i == NSB_MAXPARAMS) bad_step(p, name, "too many parameters");
    if (i < program->plan.nparams && program->param[i].type != type)
        bad_step(p, name, "a parameter of two types");
    if (i < program->plan.nparams) return i;
    program->param[i] = (struct nsbL_param){keep_name(p, name), type};
    return program->plan.nparams++;
}

static void use_param(struct nsb_step *step, int i, int number)
{
    step->a[i] = number;
    step->params |= (uint16_t)(1U << i);
}

static void read_arg(struct plan *p, struct nsb_step *step, int i, const struct nsbL_field *f)
{
    lua_State *L = p->L;
    const char *slot = strchr("dDi", f->type) ? slot_name(L, -1) : NULL;
    int param = strchr("sSi", f->type) ? param_number(p, f->type) : 0;
    if (f->type == 'K') {
        use_param(step, i, NSB_PARAM_KEEP);
    } else if (slot) {
        step->a[i] = use_slot(p, slot);
        step->slots |= (uint16_t)(1U << i);
    } else if (param) {
        use_param(step, i, param);
    } else {
        struct nsbL_value v = nsbL_value(&p->memory, lua_gettop(L), f);
        if (v.bad) bad_step(p, f->name, v.bad);
        step->a[i] = v.word;
    }
}

static void read_args(struct plan *p, struct nsb_step *step)
{
    lua_State *L = p->L;
    const struct nsbL_sig *sig = nsbL_sig(step->call);
    if (luaL_len(L, p->step) - 1 > sig->n) bad_step(p, "arguments", "too many");
    for (int i = 0; i < sig->n; i++) {
        lua_geti(L, p->step, i + 2);
        read_arg(p, step, i, &sig->field[i]);
        lua_pop(L, 1);
    }
}

static void read_ok(struct plan *p, struct nsb_step *step)
{
    lua_State *L = p->L;
    static const struct nsbL_field name = {"ok", 'F', 0, "E"};
    if (lua_getfield(L, p->step, "ok") == LUA_TSTRING) {
        const char *s = lua_tostring(L, -1);
        for (int i = 0; *s; i++) {
            size_t n = strcspn(s, ",");
            lua_pushlstring(L, s, n);
            struct nsbL_value v = nsbL_value(&p->memory, lua_gettop(L), &name);
            if (v.bad || i == NSB_MAXOK) bad_step(p, "ok", v.bad ? v.bad : "too many errnos");
            step->ok[i] = (int16_t)v.word;
            lua_pop(L, 1);
            s += n + (s[n] == ',');
        }
    }
    lua_pop(L, 1);
}

static void read_expect(struct plan *p, struct nsb_step *step)
{
    lua_State *L = p->L;
    if (lua_getfield(L, p->step, "expect") != LUA_TNIL) {
        const char *slot = slot_name(L, -1);
        step->has_expect = 1;
        step->expect_slot = slot != NULL;
        step->expect = slot ? use_slot(p, slot) : (long)luaL_checkinteger(L, -1);
    }
    lua_pop(L, 1);
}

static void read_pass(struct plan *p, const char *field, int16_t *to, int set)
{
    lua_State *L = p->L;
    if (lua_getfield(L, p->step, field) == LUA_TTABLE) {
        lua_Integer n = luaL_len(L, -1);
        if (n > NSB_MAXPASS) bad_step(p, field, "too many descriptors");
        for (int i = 0; i < n; i++) {
            lua_geti(L, -1, i + 1);
            const char *name = luaL_checkstring(L, -1);
            to[i] = (int16_t)(set ? set_slot(p, name) : use_slot(p, name));
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

static void read_vector(struct plan *p, struct nsb_step *step, int i)
{
    int param = param_number(p, 'v');
    if (param)
        use_param(step, i, param);
    else
        step->a[i] = (long)(intptr_t)nsbL_strings(&p->memory, lua_gettop(p->L));
}

static void read_exec(struct plan *p, struct nsb_step *step)
{
    lua_State *L = p->L;
    lua_geti(L, p->step, 2);
    const char *slot = slot_name(L, -1);
    if (slot) {
        step->a[NSB_EXEC_FD] = use_slot(p, slot);
        step->slots |= (uint16_t)(1U << NSB_EXEC_FD);
    } else {
        read_vector(p, step, NSB_EXEC_PATHS);
    }
    lua_geti(L, p->step, 3);
    read_vector(p, step, NSB_EXEC_ARGV);
    lua_geti(L, p->step, 4);
    read_vector(p, step, NSB_EXEC_ENVP);
    lua_pop(L, 3);
}

static void read_return(struct plan *p, struct nsb_step *step)
{
    for (int i = 0; i < 2; i++) {
        lua_geti(p->L, p->step, i + 2);
        const char *slot = slot_name(p->L, -1);
        if (!slot) bad_step(p, i ? "none" : "result", "a slot expected");
        step->a[i] = use_slot(p, slot);
        step->slots |= (uint16_t)(1U << i);
        lua_pop(p->L, 1);
    }
}

static void read_into(struct plan *p, struct nsb_step *step)
{
    if (lua_getfield(p->L, p->step, "into") != LUA_TNIL) {
        const char *slot = slot_name(p->L, -1);
        if (!slot) bad_step(p, "into", "a slot expected");
        step->a[NSB_HOP_INTO] = use_slot(p, slot);
        step->slots |= 1U << NSB_HOP_INTO;
    }
    lua_pop(p->L, 1);
}

static void read_hop(struct plan *p, struct nsb_step *step)
{
    lua_geti(p->L, p->step, 2);
    step->a[NSB_HOP_FLAGS] = nsbL_checkflags(p->L, lua_gettop(p->L), "CLONE");
    lua_pop(p->L, 1);
    read_into(p, step);
    if (p->own_table)
        bad_step(p, "flags", "the process has a descriptor table of its own: a pidfd would be lost");
    p->own_table = !(step->a[NSB_HOP_FLAGS] & CLONE_FILES);
}

static void read_vacate(struct plan *p, struct nsb_step *step)
{
    lua_geti(p->L, p->step, 2);
    step->a[0] = (long)lua_tointeger(p->L, -1);
    if (step->a[0] < 3 || step->a[0] > 0xffff) bad_step(p, "number", "3 to 65535 expected");
    lua_pop(p->L, 1);
}

/* A process that shares the caller's descriptor table may neither change it nor read the caller's side. */
static void check_table(struct plan *p, const struct nsb_step *step)
{
    if (p->own_table || step->kind == NSB_HOP) return;
    if (step->kind != NSB_CALL || step->out >= 0 || strcmp(p->call, "close_fds") == 0 ||
        strcmp(p->call, "dup3") == 0)
        bad_step(p, p->call, "the process shares the caller's descriptors: hop first");
}

static void read_call(struct plan *p, struct nsb_step *step)
{
    lua_State *L = p->L;
    lua_getfield(L, LUA_REGISTRYINDEX, "nsbox.rows");
    if (lua_getfield(L, -1, p->call) != LUA_TNUMBER) bad_step(p, p->call, "no such call");
    step->call = (uint16_t)lua_tointeger(L, -1);
    lua_pop(L, 2);
    read_args(p, step);
    read_ok(p, step);
    read_expect(p, step);
}

static void read_out(struct plan *p, struct nsb_step *step)
{
    if (lua_getfield(p->L, p->step, "out") == LUA_TSTRING)
        step->out = (int16_t)set_slot(p, lua_tostring(p->L, -1));
    lua_pop(p->L, 1);
}

static void read_step(struct plan *p, struct nsb_step *step)
{
    memset(step, 0, sizeof *step);
    memset(step->give, -1, sizeof step->give);
    memset(step->take, -1, sizeof step->take);
    step->out = -1;
    step->index = (uint16_t)p->number;
    read_pass(p, "give", step->give, 0);
    if (strcmp(p->call, "clone") == 0)
        step->kind = NSB_HOP, read_hop(p, step);
    else if (strcmp(p->call, "barrier") == 0)
        step->kind = NSB_BARRIER, read_pass(p, "take", step->take, 1);
    else if (strcmp(p->call, "vacate") == 0)
        step->kind = NSB_VACATE, read_vacate(p, step);
    else if (strcmp(p->call, "execve") == 0)
        step->kind = NSB_EXEC, read_exec(p, step);
    else if (strcmp(p->call, "return") == 0)
        step->kind = NSB_RETURN, read_return(p, step);
    else
        step->kind = NSB_CALL, read_call(p, step);
    read_out(p, step);
    check_table(p, step);
}

/* Slot 0 is the caller's pid: a number that no close_fds may spare. An input that a plan has no use for is no
 * mistake of the plan. */
static void read_inputs(struct plan *p, int inputs)
{
    lua_State *L = p->L;
    struct nsbL_program *program = p->program;
    int n = 0;
    p->used[set_slot(p, "owner")] = 1;
    for (lua_pushnil(L); lua_next(L, inputs); lua_pop(L, 1)) n++;
    program->input = nsbL_take(&p->memory, (size_t)(n + 1) * sizeof *program->input);
    for (lua_pushnil(L); lua_next(L, inputs); lua_pop(L, 1)) {
        p->call = "inputs";
        const char *name = luaL_checkstring(L, -2);
        int slot = set_slot(p, name);
        p->used[slot] = 1;
        program->input[program->ninputs++] = (struct nsbL_input){keep_name(p, name), slot};
    }
}

static void check_used(struct plan *p)
{
    lua_State *L = p->L;
    for (lua_pushnil(L); lua_next(L, p->slots); lua_pop(L, 1))
        if (!p->used[lua_tointeger(L, -1)])
            luaL_error(L, "plan: slot '%s' is set and never used", lua_tostring(L, -2));
}

static void read_steps(struct plan *p, int steps)
{
    lua_State *L = p->L;
    lua_Integer n = luaL_len(L, steps);
    struct nsb_step *to = nsbL_take(&p->memory, (size_t)(n ? n : 1) * sizeof *to);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, steps, i);
        p->step = lua_gettop(L);
        lua_getfield(L, p->step, "index");
        p->number = (int)luaL_optinteger(L, -1, i);
        lua_geti(L, p->step, 1);
        p->call = luaL_checkstring(L, -1);
        read_step(p, &to[i - 1]);
        lua_settop(L, p->step - 1);
    }
    p->program->plan.step = to;
    p->program->plan.nsteps = (int)n;
}

struct nsbL_program *nsbL_compile(lua_State *L, int steps, int inputs, unsigned long flags)
{
    struct nsbL_program *program = lua_newuserdatauv(L, sizeof *program, 0);
    *program = (struct nsbL_program){.flags = flags, .plan.nparams = NSB_PARAM_KEEP + 1};
    luaL_setmetatable(L, NSBL_PROGRAM);
    lua_newtable(L);
    struct plan p = {.L = L, .program = program, .memory = {L, program, NULL}, .call = ""};
    p.slots = lua_gettop(L);
    p.own_table = !(flags & CLONE_FILES);
    read_inputs(&p, inputs);
    read_steps(&p, steps);
    check_used(&p);
    lua_pop(L, 1);
    return program;
}
