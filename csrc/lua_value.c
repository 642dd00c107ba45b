/* lua_value.c: Lua values to the words of a call. One marshaller, by the row's signature, serves both
 * a call made now (nsbox.sys.NAME) and the steps of a plan (lua_plan.c). */
#include "lua_value.h"

#include "const.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAXROWS = 128 };

static struct nsbL_sig sigs[MAXROWS]; /* one per row, read once */

static const struct nsb_group *find_group(const char *name, size_t n)
{
    for (unsigned i = 0; i < nsb_ngroups; i++)
        if (strlen(nsb_groups[i].name) == n && memcmp(nsb_groups[i].name, name, n) == 0)
            return &nsb_groups[i];
    return NULL;
}

static const char *parse_field(struct nsbL_sig *sig, const char *p)
{
    struct nsbL_field *f = &sig->field[sig->n];
    size_t n = strcspn(p, ":");
    memcpy(f->name, p, n < NSBL_MAXNAME ? n : NSBL_MAXNAME - 1);
    p += n + 1;
    f->type = *p++;
    if (*p == '(') {
        size_t len = strcspn(++p, ")");
        const struct nsb_group *g = find_group(p, len);
        f->group = g ? g->name : NULL;
        p += len + 1;
    }
    for (; *p && *p != ' '; p++) {
        if (*p == '!') sig->subject = sig->n;
        if (*p == '?') f->optional = 1;
    }
    sig->n++;
    return p + strspn(p, " ");
}

static void read_sigs(void)
{
    for (unsigned i = 0; i < nsb_ncalls; i++) {
        sigs[i] = (struct nsbL_sig){.subject = -1};
        for (const char *p = nsb_calls[i].sig; *p;) p = parse_field(&sigs[i], p);
    }
}

/* Reads all signatures, and makes for each group a table name -> value, in the registry. */
void nsbL_sigs(lua_State *L)
{
    if (nsb_ncalls > MAXROWS) luaL_error(L, "nsbox.core: more than %d calls", MAXROWS);
    if (!sigs[0].n) read_sigs();
    lua_newtable(L);
    for (unsigned g = 0; g < nsb_ngroups; g++) {
        lua_newtable(L);
        for (unsigned i = 0; i < nsb_groups[g].n; i++) {
            char lower[NSBL_MAXNAME * 2];
            const char *name = nsb_groups[g].at[i].name;
            size_t n = strlen(name);
            for (size_t j = 0; j <= n; j++)
                lower[j] = (char)(name[j] >= 'A' && name[j] <= 'Z' ? name[j] + 32 : name[j]);
            lua_pushinteger(L, nsb_groups[g].at[i].value);
            lua_setfield(L, -2, lower);
        }
        lua_setfield(L, -2, nsb_groups[g].name);
    }
    lua_setfield(L, LUA_REGISTRYINDEX, "nsbox.groups");
    lua_newtable(L);
    for (unsigned i = 0; i < nsb_ncalls; i++) {
        lua_pushinteger(L, i);
        lua_setfield(L, -2, nsb_calls[i].name);
    }
    lua_setfield(L, LUA_REGISTRYINDEX, "nsbox.rows");
}

void *nsbL_take(struct nsbL_memory *m, size_t n)
{
    if (!m->program && !m->arena) return lua_newuserdatauv(m->L, n, 0);
    void *p = m->program ? nsbL_program_take(m->program, n) : nsb_arena_alloc(m->arena, n);
    if (!p) luaL_error(m->L, "arguments do not fit into %d MiB", 16);
    return p;
}

static const char *keep_string(struct nsbL_memory *m, const char *s, size_t n)
{
    if (!m->program && !m->arena) return s;
    char *p = nsbL_take(m, n + 1);
    memcpy(p, s, n + 1);
    return p;
}

/* Looks a name of a flag list up, in any case; "SIGTERM" serves for "term". */
static int look_up(lua_State *L, int group, const char *prefix, const char *name, size_t n, long *value)
{
    char lower[NSBL_MAXNAME * 2];
    if (n >= sizeof lower) return 0;
    for (size_t i = 0; i < n; i++)
        lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
    lower[n] = 0;
    int found = lua_getfield(L, group, lower) == LUA_TNUMBER;
    if (found) *value = (long)lua_tointeger(L, -1);
    lua_pop(L, 1);
    size_t skip = strlen(prefix);
    if (!found && skip && n > skip && strncasecmp(prefix, name, skip) == 0)
        return look_up(L, group, "", name + skip, n - skip, value);
    return found;
}

static const char *unknown_flag(const struct nsb_group *g, const char *name, size_t n)
{
    static _Thread_local char text[96];
    snprintf(text, sizeof text, "unknown flag '%.*s' of %s*", (int)(n < 48 ? n : 48), name, g->prefix);
    return text;
}

static struct nsbL_value flags_of(lua_State *L, int idx, const char *group)
{
    struct nsbL_value v = {0, NULL};
    if (lua_isnoneornil(L, idx)) return v;
    if (lua_isinteger(L, idx)) return v.word = (long)lua_tointeger(L, idx), v;
    if (lua_type(L, idx) != LUA_TSTRING) return v.bad = "flags expected: an integer or \"name,name\"", v;
    const char *s = lua_tostring(L, idx);
    const struct nsb_group *g = find_group(group, strlen(group));
    lua_getfield(L, LUA_REGISTRYINDEX, "nsbox.groups");
    lua_getfield(L, -1, group);
    while (*s && !v.bad) {
        size_t n = strcspn(s, ",");
        long one = 0;
        if (!look_up(L, lua_gettop(L), g->prefix, s, n, &one)) v.bad = unknown_flag(g, s, n);
        v.word |= one;
        s += n + (s[n] == ',');
    }
    lua_pop(L, 2);
    return v;
}

long nsbL_checkflags(lua_State *L, int arg, const char *group)
{
    struct nsbL_value v = flags_of(L, arg, group);
    if (v.bad) luaL_argerror(L, arg, v.bad);
    return v.word;
}

/* "0755", "ifchr,0600", or an integer made of S_* constants. */
static struct nsbL_value mode_of(lua_State *L, int idx)
{
    struct nsbL_value v = {0, NULL};
    if (lua_isnoneornil(L, idx)) return v;
    if (lua_isinteger(L, idx)) {
        v.word = (long)lua_tointeger(L, idx);
        /* 0755 in Lua is 755: a decimal slip, unless a file type comes with it */
        if (v.word != 0 && v.word < 010000)
            v.bad = "a mode is a string such as \"0755\": Lua has no octal numbers";
        return v;
    }
    if (lua_type(L, idx) != LUA_TSTRING) return v.bad = "a mode is a string such as \"0755\"", v;
    const char *s = lua_tostring(L, idx);
    const char *digits = strrchr(s, ',') ? strrchr(s, ',') + 1 : s;
    char *end;
    v.word = strtol(digits, &end, 8);
    if (*end || end == digits || v.word < 0 || v.word > 07777)
        return v.bad = "a mode is octal digits, \"0755\"", v;
    if (digits == s) return v;
    lua_pushlstring(L, s, (size_t)(digits - s - 1));
    struct nsbL_value type = flags_of(L, lua_gettop(L), "S");
    if (type.bad) return type;
    lua_pop(L, 1);
    v.word |= type.word;
    return v;
}

static struct nsbL_value list_of(struct nsbL_memory *m, int idx)
{
    struct nsbL_value v = {0, NULL};
    lua_State *L = m->L;
    if (lua_type(L, idx) != LUA_TTABLE && !lua_isnoneornil(L, idx))
        return v.bad = "a list of numbers expected", v;
    lua_Integer n = lua_istable(L, idx) ? luaL_len(L, idx) : -1;
    struct nsb_list *l = nsbL_take(m, sizeof *l + (size_t)(n > 0 ? n : 0) * sizeof l->at[0]);
    l->n = n;
    for (lua_Integer i = 0; i < n; i++) {
        lua_geti(L, idx, i + 1);
        lua_Integer one = lua_tointeger(L, -1);
        if (!lua_isinteger(L, -1) || one < 0 || one > 0xffffffffLL)
            v.bad = "a list of ids (0 to 4294967295) expected";
        l->at[i] = (uint32_t)one;
        lua_pop(L, 1);
    }
    v.word = (long)(intptr_t)l;
    return v;
}

static struct nsbL_value bytes_of(struct nsbL_memory *m, int idx)
{
    struct nsbL_value v = {0, NULL};
    size_t n;
    if (lua_type(m->L, idx) != LUA_TSTRING) return v.bad = "a string expected", v;
    const char *s = lua_tolstring(m->L, idx, &n);
    struct nsb_bytes *b = nsbL_take(m, sizeof *b + n + 1);
    b->n = (long)n;
    memcpy(b->at, s, n + 1);
    v.word = (long)(intptr_t)b;
    return v;
}

static struct nsbL_value string_of(struct nsbL_memory *m, int idx, int nullable)
{
    struct nsbL_value v = {0, NULL};
    size_t n;
    if (lua_isnoneornil(m->L, idx) && nullable) return v;
    if (lua_type(m->L, idx) != LUA_TSTRING)
        return v.bad = nullable ? "a string or nil expected" : "a string expected", v;
    const char *s = lua_tolstring(m->L, idx, &n);
    if (strlen(s) != n) return v.bad = "the string holds a NUL byte", v;
    v.word = (long)(intptr_t)keep_string(m, s, n);
    return v;
}

static struct nsbL_value descriptor_of(lua_State *L, int idx, const struct nsbL_field *f)
{
    struct nsbL_value v = {-1, NULL};
    if (lua_isnoneornil(L, idx) && f->optional) return v;
    if (f->type == 'D' && lua_type(L, idx) == LUA_TSTRING && strcmp(lua_tostring(L, idx), "cwd") == 0)
        return v.word = AT_FDCWD, v;
    v.word = nsbL_tofd(L, idx);
    if (v.word < 0)
        v.bad = luaL_testudata(L, idx, NSBL_FD) ? "the descriptor is closed"
                : f->type == 'D'                ? "a descriptor or \"cwd\" expected"
                                                : "a descriptor expected";
    return v;
}

struct nsbL_value nsbL_value(struct nsbL_memory *m, int idx, const struct nsbL_field *f)
{
    struct nsbL_value v = {0, NULL};
    switch (f->type) {
    case 's': return string_of(m, idx, 0);
    case 'S': return string_of(m, idx, 1);
    case 'F': return flags_of(m->L, idx, f->group);
    case 'm': return mode_of(m->L, idx);
    case 'L': return list_of(m, idx);
    case 'b': return bytes_of(m, idx);
    case 'd':
    case 'D': return descriptor_of(m->L, idx, f);
    default: /* 'i', nil is 0; 'I', where a 0 by mistake would do harm */
        if (lua_isnoneornil(m->L, idx) && f->type != 'I') return v;
        if (!lua_isinteger(m->L, idx)) return v.bad = "an integer expected", v;
        return v.word = (long)lua_tointeger(m->L, idx), v;
    }
}

/* A NULL-terminated vector of the strings in a list. Raises on anything else. */
char **nsbL_strings(struct nsbL_memory *m, int list)
{
    lua_State *L = m->L;
    lua_Integer n = luaL_len(L, list);
    char **v = nsbL_take(m, (size_t)(n + 1) * sizeof *v);
    int at = lua_gettop(L);
    for (lua_Integer i = 0; i < n; i++) {
        lua_geti(L, list, i + 1);
        struct nsbL_value s = string_of(m, lua_gettop(L), 0);
        if (s.bad) luaL_error(L, "item %I: %s", i + 1, s.bad);
        v[i] = (char *)(intptr_t)s.word;
        lua_settop(L, at); /* the list still holds the string */
    }
    v[n] = NULL;
    return v;
}

const struct nsbL_sig *nsbL_sig(unsigned row) { return &sigs[row]; }

/* ---- calls made now ---- */

static int push_result(lua_State *L, const struct nsb_call *c, const struct nsbL_sig *sig, long ret, int *fd)
{
    if (ret < 0) {
        const char *subject = sig->subject >= 0 ? lua_tostring(L, sig->subject + 1) : NULL;
        const char *what = subject ? lua_pushfstring(L, "%s %s", c->name, subject) : c->name;
        return nsbL_fail(L, (int)-ret, what);
    }
    if (fd) {
        int up = nsb_lift((int)ret);
        if (up < 0) return nsbL_fail(L, -up, c->name);
        *fd = up;
        lua_pushvalue(L, sig->n + 1);
    } else if (c->ret == NSB_INTEGER) {
        lua_pushinteger(L, ret);
    } else {
        lua_pushboolean(L, 1);
    }
    return 1;
}

static int l_call(lua_State *L)
{
    lua_Integer row = lua_tointeger(L, lua_upvalueindex(1));
    const struct nsb_call *c = &nsb_calls[row];
    const struct nsbL_sig *sig = &sigs[row];
    long a[NSB_MAXARGS] = {0};
    struct nsbL_memory m = {.L = L};
    for (int i = lua_gettop(L); i > sig->n; i--)
        if (!lua_isnil(L, i)) luaL_error(L, "%s: at most %d arguments expected", c->name, sig->n);
    lua_settop(L, sig->n);
    int *fd = c->ret == NSB_DESCRIPTOR ? nsbL_newfd(L) : NULL;
    for (int i = 0; i < sig->n; i++) {
        struct nsbL_value v = nsbL_value(&m, i + 1, &sig->field[i]);
        if (v.bad) luaL_argerror(L, i + 1, lua_pushfstring(L, "%s: %s", sig->field[i].name, v.bad));
        a[i] = v.word;
    }
    return push_result(L, c, sig, nsb_perform(c, a), fd);
}

void nsbL_open_calls(lua_State *L)
{
    for (unsigned i = 0; i < nsb_ncalls; i++) {
        if (strstr(nsb_calls[i].sig, ":K")) continue; /* close_fds: of a start only */
        lua_pushinteger(L, i);
        lua_pushcclosure(L, l_call, 1);
        lua_setfield(L, -2, nsb_calls[i].name);
    }
}
