/* Causal attention and its gradients, for llm/causal.py: needs instructions that add up pairs of
   products of bf16 (AVX512 BF16), or with FP32 those for sixteen of fp32 (AVX512 F). After
   FlashAttention-2 (Dao 2023, algorithms 1 and 2): scores live in small blocks that no cache has to
   give up, those above the diagonal are not worked out, and the backward pass computes them again
   from the logarithm of each row's sum.

   FEATURES of a head, a multiple of 16. T tokens; P: T rounded up to whole tiles. Sums are fp32, and
   each is added up in one order, whatever is computed beside it. Numbers that an instruction
   multiplies and adds up in one lane are a link: a pair of bf16, or one of fp32. */

#include <immintrin.h>
#include <omp.h>
#include <stdlib.h>

#include "vectors.h"

#ifdef FP32
#ifndef __AVX512F__
#error "this processor has no vectors of sixteen"
#endif
typedef float number;
#define LINK 1
#else
#ifndef __AVX512BF16__
#error "this processor cannot add up products of bf16"
#endif
typedef uint16_t number;
#define LINK 2
#endif

#define TILE 64  /* columns of a tile of scores */
#define ROWS 4   /* rows whose sums are kept in registers, with 4 vectors of columns each */
#define STRIP 16 /* rows of queries that look at a tile while it is near */
#define WIDE (FEATURES / LANES)
#define LINKS (FEATURES / LINK)
#define TALL (TILE / LINK) /* links of a column of a tile */

typedef struct {
    int64_t text, head, token; /* numbers from one to the next; features lie side by side */
} steps;

static inline __m512 multiplied(__m512 sums, __m512i left, __m512i right) {
#ifdef FP32
    return _mm512_fmadd_ps((__m512)left, (__m512)right, sums);
#else
    return _mm512_dpbf16_ps(sums, (__m512bh)left, (__m512bh)right);
#endif
}

/* sums[r][v] += the products of links: those of row r, `row` apart from row to row and `next` from
   link to link, with links of 16 columns v, `line` apart from link to link. */
static inline __attribute__((always_inline)) void add_products(
    const int32_t *left, const int64_t row, const int64_t next, const int32_t *right,
    const int64_t line, const int64_t links, const int wide, vector sums[ROWS][4]) {
    __m512 kept[ROWS][4];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < wide; v++) kept[r][v] = (__m512)sums[r][v];
#pragma GCC unroll 4
    for (int64_t k = 0; k < links; k++) {
        __m512i columns[4];
        for (int v = 0; v < wide; v++)
            columns[v] = _mm512_loadu_si512(right + k * line + v * LANES);
        for (int r = 0; r < ROWS; r++) {
            const __m512i same = _mm512_set1_epi32(left[r * row + k * next]);
            for (int v = 0; v < wide; v++) kept[r][v] = multiplied(kept[r][v], same, columns[v]);
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < wide; v++) sums[r][v] = (vector)kept[r][v];
}

static inline vector load_sums(const float *from) { return (vector)_mm512_loadu_ps(from); }

static inline void store_sums(float *to, vector sums) { _mm512_storeu_ps(to, (__m512)sums); }

#ifdef FP32
#define load load_sums
#define store store_sums
#else
#define load load_bf16
static inline __m256i shortened(vector values) {
    return (__m256i)_mm512_cvtneps_pbh((__m512)values);
}

static inline void store(uint16_t *to, vector values) {
    _mm256_storeu_si256((__m256i *)to, shortened(values));
}
#endif

/* to (ROWS, FEATURES) += rows of links times links of rows. */
static inline __attribute__((always_inline)) void add_rows(
    const int32_t *left, const int64_t row, const int64_t next, const int32_t *right,
    const int64_t links, float *to) {
    for (int w = 0; w < WIDE; w += 4) {
        const int wide = WIDE - w < 4 ? WIDE - w : 4;
        vector sums[ROWS][4];
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < wide; v++)
                sums[r][v] = load_sums(to + r * FEATURES + (w + v) * LANES);
        add_products(left, row, next, right + w * LANES, FEATURES, links, wide, sums);
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < wide; v++)
                store_sums(to + r * FEATURES + (w + v) * LANES, sums[r][v]);
    }
}

/* Rows of a head, one below another, with zeros after them: (T, FEATURES) -> (P, FEATURES). */
static void gather(const number *from, int64_t step, int64_t tokens, int64_t padded, number *to) {
    const int64_t row = FEATURES * sizeof(number);
    for (int64_t t = 0; t < tokens; t++) memcpy(to + t * FEATURES, from + t * step, row);
    memset(to + tokens * FEATURES, 0, row * (padded - tokens));
}

/* Links of features of TILE rows side by side: (P, FEATURES) -> (P / TILE, LINKS, TILE) links. */
static void lay_sideways(const number *rows, int64_t padded, int32_t *to) {
    for (int64_t t = 0; t < padded; t++) {
        const int32_t *row = (const int32_t *)(rows + t * FEATURES);
        int32_t *column = to + t / TILE * LINKS * TILE + t % TILE;
        for (int e = 0; e < LINKS; e++) column[e * TILE] = row[e];
    }
}

/* Links of rows: (P, FEATURES) -> (P / LINK, FEATURES) links. */
static void link_rows(const number *rows, int64_t padded, int32_t *to) {
#ifdef FP32
    memcpy(to, rows, 4 * FEATURES * padded);
#else
    for (int64_t t = 0; t < padded; t += 2)
        for (int e = 0; e < FEATURES; e++)
            to[t / 2 * FEATURES + e] =
                rows[t * FEATURES + e] | (int32_t)rows[(t + 1) * FEATURES + e] << 16;
#endif
}

static void scatter(const float *rows, int64_t step, int64_t tokens, number *to) {
    for (int64_t t = 0; t < tokens; t++)
        for (int w = 0; w < WIDE; w++)
            store(to + t * step + w * LANES, load_sums(rows + t * FEATURES + w * LANES));
}

/* Memory to work in, given out piece by piece. */
typedef struct {
    char *at;
} heap;

static void *take(heap *memory, int64_t bytes) {
    char *piece = memory->at;
    memory->at += (bytes + 63) / 64 * 64;
    return piece;
}

/* Which of the keys from `at` on lie between the first and the last that a query sees. */
static inline __mmask16 between(int64_t at, __m512i start, __m512i last) {
    const __m512i keys = _mm512_add_epi32((__m512i)__builtin_convertvector(counting(), whole),
                                          _mm512_set1_epi32(at));
    return _mm512_cmple_epi32_mask(start, keys) & _mm512_cmple_epi32_mask(keys, last);
}

/* What STRIP queries from `first` on make of their scores (STRIP, P) with keys from `begin` on, the
   logarithms of their sums and how much each row counts. */
static void soften(float *scores, number *shares, float *logs, float *counts, int64_t first,
                   int64_t begin, int64_t padded, const int32_t *starts) {
    for (int64_t r = 0; r < STRIP; r++) {
        float *row = scores + r * padded;
        const int64_t own = first + r, end = first + STRIP;
        const __m512i start = _mm512_set1_epi32(starts[own]), last = _mm512_set1_epi32(own);
        vector best = {0}, total = {0};
        best -= 1e30f;
        for (int64_t s = begin; s < end; s += LANES) {
            const __mmask16 seen = between(s, start, last);
            const __m512 hidden = _mm512_set1_ps(-1e30f);
            const __m512 known = _mm512_mask_loadu_ps(hidden, seen, row + s);
            store_sums(row + s, (vector)known);
            best = (vector)_mm512_max_ps((__m512)best, known);
        }
        const float most = _mm512_reduce_max_ps((__m512)best);
        for (int64_t s = begin; s < end; s += LANES) {
            const vector power_of = power(load_sums(row + s) - most);
            const __m512 share = _mm512_maskz_mov_ps(between(s, start, last), (__m512)power_of);
            total += (vector)share;
            store(shares + r * padded + s, (vector)share);
        }
        const float sum = _mm512_reduce_add_ps((__m512)total);
        logs[r] = most + logf(sum);
        counts[r] = 1.0f / sum;
    }
}

/* The first key that each query sees, with zeros after them: (T,) -> (P,); null: always the first. */
static void gather_starts(const int32_t *from, int64_t tokens, int64_t padded, int32_t *to) {
    memset(to, 0, 4 * padded);
    if (from) memcpy(to, from, 4 * tokens);
}

/* query, mixed: (texts, heads, T, FEATURES); key, value: (texts, shared, T, FEATURES), each for as many
   neighbouring heads; logs: (texts, heads, T); starts: (texts, T), or null: the first key that each
   query sees, never before that of an earlier query. */
void attend_forward(const number *query, const number *key, const number *value, number *mixed,
                    float *logs, const int32_t *starts, const steps *q, const steps *k, const steps *v,
                    const steps *o, int64_t texts, int64_t heads, int64_t shared, int64_t tokens,
                    int64_t threads) {
    const int64_t padded = (tokens + TILE - 1) / TILE * TILE, group = heads / shared;
    const float scale = 1.0f / sqrtf(FEATURES);
    const int64_t size = sizeof(number), lines = size * FEATURES * padded;
    const int64_t bytes =
        4 * lines + ((4 + size) * STRIP + 4) * padded + 4 * STRIP * FEATURES + 1024;
#pragma omp parallel num_threads(threads)
    {
        void *const block = aligned_alloc(64, (bytes + 63) / 64 * 64);
        heap memory = {block};
        number *rows = take(&memory, lines), *shares = take(&memory, size * STRIP * padded);
        number *asking = take(&memory, lines);
        int32_t *keys = take(&memory, lines), *values = take(&memory, lines);
        float *scores = take(&memory, 4 * STRIP * padded), *sums = take(&memory, 4 * STRIP * FEATURES);
        int32_t *from = take(&memory, 4 * padded);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < texts * shared; n++) {
            const int64_t text = n / shared, line = n % shared;
            gather(key + text * k->text + line * k->head, k->token, tokens, padded, rows);
            lay_sideways(rows, padded, keys);
            gather_starts(starts ? starts + text * tokens : 0, tokens, padded, from);
            gather(value + text * v->text + line * v->head, v->token, tokens, padded, rows);
            link_rows(rows, padded, values);
            for (int64_t h = line * group; h < (line + 1) * group; h++) {
                gather(query + text * q->text + h * q->head, q->token, tokens, padded, asking);
                for (int64_t i = 0; i < tokens; i += STRIP) {
                    const int64_t begin = from[i] / LANES * LANES;
                    for (int64_t t = begin / TILE; t <= i / TILE; t++)
                        for (int r = 0; r < STRIP; r += ROWS) {
                            vector found[ROWS][4] = {0};
                            add_products((int32_t *)(asking + (i + r) * FEATURES), LINKS, 1,
                                         keys + t * LINKS * TILE, TILE, LINKS, 4, found);
                            for (int s = 0; s < ROWS; s++)
                                for (int c = 0; c < 4; c++)
                                    store_sums(scores + (r + s) * padded + t * TILE + c * LANES,
                                               found[s][c] * scale);
                        }
                    float log[STRIP], counts[STRIP];
                    soften(scores, shares, log, counts, i, begin, padded, from);
                    memset(sums, 0, 4 * STRIP * FEATURES);
                    for (int r = 0; r < STRIP; r += ROWS)
                        add_rows((int32_t *)(shares + r * padded + begin), padded / LINK, 1,
                                 values + begin / LINK * FEATURES, (i + STRIP - begin) / LINK,
                                 sums + r * FEATURES);
                    for (int64_t r = 0; r < STRIP && i + r < tokens; r++) {
                        number *to = mixed + text * o->text + h * o->head + (i + r) * o->token;
                        for (int w = 0; w < WIDE; w++)
                            store(to + w * LANES,
                                        load_sums(sums + r * FEATURES + w * LANES) * counts[r]);
                        logs[(text * heads + h) * tokens + i + r] = log[r];
                    }
                }
            }
        }
        free(block);
    }
}

/* Rows of keys from `j` on, ROWS of them, with the queries of tiles `first` to `end` - 1: their shares
   and the gradients of their scores, by key, and these also in links of keys, by tile of queries. */
static inline __attribute__((always_inline)) void look_back(
    const number *key, const number *value, const int32_t *queries, const int32_t *wanted,
    const float *logs, const float *owed, const int32_t *starts, int64_t j, int64_t first, int64_t end,
    int64_t padded, number *shares, number *changes, int32_t *links) {
    const float scale = 1.0f / sqrtf(FEATURES);
    for (int64_t t = first; t < end; t++) {
        vector score[ROWS][4] = {0}, gain[ROWS][4] = {0};
        add_products((const int32_t *)key, LINKS, 1, queries + t * LINKS * TILE, TILE, LINKS, 4, score);
        add_products((const int32_t *)value, LINKS, 1, wanted + t * LINKS * TILE, TILE, LINKS, 4, gain);
        for (int c = 0; c < 4; c++) {
            const int64_t i = t * TILE + c * LANES, at = i - first * TILE;
            if (i + LANES <= j) continue; /* nobody reads what no query sees */
            const vector log = load_sums(logs + i), own = load_sums(owed + i);
            const __m512i start = _mm512_loadu_si512(starts + i);
            const __m512i place = _mm512_add_epi32(
                (__m512i)__builtin_convertvector(counting(), whole), _mm512_set1_epi32(i));
            int32_t *const column = links + (t - first) * TALL * TILE + c * LANES;
            vector change[ROWS];
            for (int r = 0; r < ROWS; r++) {
                const __m512i key_at = _mm512_set1_epi32(j + r);
                const __mmask16 seen = _mm512_cmple_epi32_mask(start, key_at) &
                                       _mm512_cmple_epi32_mask(key_at, place);
                /* what is hidden may be larger than the largest that was seen */
                const vector known = (vector)_mm512_mask_mov_ps(
                    _mm512_set1_ps(-1e30f), seen, (__m512)(score[r][c] * scale - log));
                const vector share = (vector)_mm512_maskz_mov_ps(seen, (__m512)power(known));
                change[r] = share * (gain[r][c] - own) * scale;
                store(shares + r * padded + at, share);
                store(changes + r * padded + at, change[r]);
            }
#ifdef FP32
            for (int r = 0; r < ROWS; r++) store_sums((float *)column + r * TILE, change[r]);
#else
            for (int r = 0; r < ROWS; r += 2) {
                const __m512i low = _mm512_cvtepu16_epi32(shortened(change[r]));
                const __m512i high = _mm512_cvtepu16_epi32(shortened(change[r + 1]));
                _mm512_storeu_si512(column + r / 2 * TILE,
                                    _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
            }
#endif
        }
    }
}

/* The gradients of query, key and value, given that of `mixed`; all as in attend_forward. */
void attend_backward(const number *query, const number *key, const number *value,
                     const number *mixed, const float *all_logs, const int32_t *starts,
                     const number *grad,
                     number *to_query, number *to_key, number *to_value, const steps *q,
                     const steps *k, const steps *v, const steps *o, const steps *g, const steps *dq,
                     const steps *dk, const steps *dv, int64_t texts, int64_t heads, int64_t shared,
                     int64_t tokens, int64_t threads) {
    const int64_t padded = (tokens + TILE - 1) / TILE * TILE, group = heads / shared;
    const int64_t size = sizeof(number), lines = size * FEATURES * padded;
    const int64_t sums = 4 * FEATURES * padded, blocks = 4 * TALL * padded;
    const int64_t bytes =
        9 * lines + 3 * sums + 2 * size * ROWS * padded + blocks + 12 * padded + 2048;
#pragma omp parallel num_threads(threads)
    {
        void *const block = aligned_alloc(64, (bytes + 63) / 64 * 64);
        heap memory = {block};
        number *keys = take(&memory, lines), *values = take(&memory, lines);
        number *asking = take(&memory, lines), *asked = take(&memory, lines);
        int32_t *key_links = take(&memory, lines), *queries = take(&memory, lines);
        int32_t *query_links = take(&memory, lines), *wanted = take(&memory, lines);
        int32_t *wanted_links = take(&memory, lines);
        float *query_sums = take(&memory, sums), *key_sums = take(&memory, sums);
        float *value_sums = take(&memory, sums);
        number *shares = take(&memory, size * ROWS * padded);
        number *changes = take(&memory, size * ROWS * padded);
        int32_t *change_links = take(&memory, blocks);
        float *logs = take(&memory, 4 * padded), *owed = take(&memory, 4 * padded);
        int32_t *from = take(&memory, 4 * padded);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < texts * shared; n++) {
            const int64_t text = n / shared, line = n % shared;
            gather(key + text * k->text + line * k->head, k->token, tokens, padded, keys);
            gather(value + text * v->text + line * v->head, v->token, tokens, padded, values);
            link_rows(keys, padded, key_links);
            gather_starts(starts ? starts + text * tokens : 0, tokens, padded, from);
            memset(key_sums, 0, sums);
            memset(value_sums, 0, sums);
            for (int64_t h = line * group; h < (line + 1) * group; h++) {
                gather(query + text * q->text + h * q->head, q->token, tokens, padded, asking);
                gather(grad + text * g->text + h * g->head, g->token, tokens, padded, asked);
                lay_sideways(asking, padded, queries);
                link_rows(asking, padded, query_links);
                lay_sideways(asked, padded, wanted);
                link_rows(asked, padded, wanted_links);
                memset(query_sums, 0, sums);
                for (int64_t i = 0; i < padded; i++) {
                    vector sum = {0};
                    const number *row = mixed + text * o->text + h * o->head + i * o->token;
                    for (int w = 0; w < WIDE && i < tokens; w++)
                        sum += load(row + w * LANES) * load(asked + i * FEATURES + w * LANES);
                    owed[i] = _mm512_reduce_add_ps((__m512)sum);
                    logs[i] = i < tokens ? all_logs[(text * heads + h) * tokens + i] : 1e30f;
                }
                for (int64_t first = 0; first < padded / TILE; first++) {
                    const int64_t start = first * TILE;
                    int64_t stop = tokens; /* after the last query that sees one of these keys */
                    while (from[stop - 1] >= start + TILE) stop--;
                    const int64_t end = (stop + TILE - 1) / TILE;
                    for (int64_t j = start; j < start + TILE; j += ROWS) {
                        look_back(keys + j * FEATURES, values + j * FEATURES, queries, wanted, logs,
                                  owed, from, j, first, end, padded, shares, changes,
                                  change_links + (j - start) / LINK * TILE);
                        add_rows((int32_t *)(shares + j - start), padded / LINK, 1,
                                 wanted_links + j / LINK * FEATURES, (end * TILE - j) / LINK,
                                 value_sums + j * FEATURES);
                        add_rows((int32_t *)(changes + j - start), padded / LINK, 1,
                                 query_links + j / LINK * FEATURES, (end * TILE - j) / LINK,
                                 key_sums + j * FEATURES);
                    }
                    for (int64_t i = start; i < end * TILE; i += ROWS) {
                        const int64_t before = i - start + ROWS < TILE ? i - start + ROWS : TILE;
                        add_rows(change_links + (i - start) / TILE * TALL * TILE + i % TILE, 1, TILE,
                                 key_links + start / LINK * FEATURES, before / LINK,
                                 query_sums + i * FEATURES);
                    }
                }
                scatter(query_sums, dq->token, tokens, to_query + text * dq->text + h * dq->head);
            }
            scatter(key_sums, dk->token, tokens, to_key + text * dk->text + line * dk->head);
            scatter(value_sums, dv->token, tokens, to_value + text * dv->text + line * dv->head);
        }
        free(block);
    }
}
