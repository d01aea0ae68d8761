/* Causal attention and its gradients, for llm/causal.py: needs instructions that add up pairs of
   products of bf16 (AVX512 BF16). After FlashAttention-2 (Dao 2023, algorithms 1 and 2): scores live
   in small blocks that no cache has to give up, those above the diagonal are not worked out, and the
   backward pass computes them again from the logarithm of each row's sum.

   FEATURES of a head, a multiple of 16. T tokens; P: T rounded up to whole tiles. Sums are fp32, and
   each is added up in one order, whatever is computed beside it. */

#include <immintrin.h>
#include <omp.h>
#include <stdlib.h>

#include "vectors.h"

#ifndef __AVX512BF16__
#error "this processor cannot add up products of bf16"
#endif

#define TILE 64  /* columns of a tile of scores */
#define ROWS 4   /* rows whose sums are kept in registers, with 4 vectors of columns each */
#define STRIP 16 /* rows of queries that look at a tile while it is near */
#define WIDE (FEATURES / LANES)
#define PAIRS (FEATURES / 2)

typedef struct {
    int64_t text, head, token; /* numbers from one to the next; features lie side by side */
} steps;

/* sums[r][v] += the products of pairs: those of row r, `row` apart from row to row and `next` from
   pair to pair, with pairs of 16 columns v, `line` apart from pair to pair. */
static inline __attribute__((always_inline)) void add_products(
    const int32_t *left, const int64_t row, const int64_t next, const int32_t *right,
    const int64_t line, const int64_t pairs, const int wide, vector sums[ROWS][4]) {
    __m512 kept[ROWS][4];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < wide; v++) kept[r][v] = (__m512)sums[r][v];
#pragma GCC unroll 4
    for (int64_t k = 0; k < pairs; k++) {
        __m512bh columns[4];
        for (int v = 0; v < wide; v++)
            columns[v] = (__m512bh)_mm512_loadu_si512(right + k * line + v * LANES);
        for (int r = 0; r < ROWS; r++) {
            const __m512bh same = (__m512bh)_mm512_set1_epi32(left[r * row + k * next]);
            for (int v = 0; v < wide; v++)
                kept[r][v] = _mm512_dpbf16_ps(kept[r][v], same, columns[v]);
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < wide; v++) sums[r][v] = (vector)kept[r][v];
}

static inline vector load_sums(const float *from) { return (vector)_mm512_loadu_ps(from); }

static inline void store_sums(float *to, vector sums) { _mm512_storeu_ps(to, (__m512)sums); }

static inline __m256i shortened(vector values) {
    return (__m256i)_mm512_cvtneps_pbh((__m512)values);
}

static inline void store_short(uint16_t *to, vector values) {
    _mm256_storeu_si256((__m256i *)to, shortened(values));
}

/* to (ROWS, FEATURES) += rows of pairs times pairs of rows. */
static inline __attribute__((always_inline)) void add_rows(
    const int32_t *left, const int64_t row, const int64_t next, const int32_t *right,
    const int64_t pairs, float *to) {
    for (int w = 0; w < WIDE; w += 4) {
        const int wide = WIDE - w < 4 ? WIDE - w : 4;
        vector sums[ROWS][4];
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < wide; v++)
                sums[r][v] = load_sums(to + r * FEATURES + (w + v) * LANES);
        add_products(left, row, next, right + w * LANES, FEATURES, pairs, wide, sums);
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < wide; v++)
                store_sums(to + r * FEATURES + (w + v) * LANES, sums[r][v]);
    }
}

/* Rows of a head, one below another, with zeros after them: (T, FEATURES) -> (P, FEATURES). */
static void gather(const uint16_t *from, int64_t step, int64_t tokens, int64_t padded, uint16_t *to) {
    for (int64_t t = 0; t < tokens; t++) memcpy(to + t * FEATURES, from + t * step, 2 * FEATURES);
    memset(to + tokens * FEATURES, 0, 2 * FEATURES * (padded - tokens));
}

/* Pairs of features of TILE rows side by side: (P, FEATURES) -> (P / TILE, PAIRS, TILE) pairs. */
static void lay_sideways(const uint16_t *rows, int64_t padded, int32_t *to) {
    for (int64_t t = 0; t < padded; t++) {
        const int32_t *row = (const int32_t *)(rows + t * FEATURES);
        int32_t *column = to + t / TILE * PAIRS * TILE + t % TILE;
        for (int e = 0; e < PAIRS; e++) column[e * TILE] = row[e];
    }
}

/* Pairs of rows: (P, FEATURES) -> (P / 2, FEATURES) pairs. */
static void pair_rows(const uint16_t *rows, int64_t padded, int32_t *to) {
    for (int64_t t = 0; t < padded; t += 2)
        for (int e = 0; e < FEATURES; e++)
            to[t / 2 * FEATURES + e] =
                rows[t * FEATURES + e] | (int32_t)rows[(t + 1) * FEATURES + e] << 16;
}

static void scatter(const float *rows, int64_t step, int64_t tokens, uint16_t *to) {
    for (int64_t t = 0; t < tokens; t++)
        for (int w = 0; w < WIDE; w++)
            store_short(to + t * step + w * LANES, load_sums(rows + t * FEATURES + w * LANES));
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
   logarithms of their sums and how much each row counts; shares in bf16. */
static void soften(float *scores, uint16_t *shares, float *logs, float *counts, int64_t first,
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
            store_short(shares + r * padded + s, (vector)share);
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
void attend_forward(const uint16_t *query, const uint16_t *key, const uint16_t *value, uint16_t *mixed,
                    float *logs, const int32_t *starts, const steps *q, const steps *k, const steps *v,
                    const steps *o, int64_t texts, int64_t heads, int64_t shared, int64_t tokens,
                    int64_t threads) {
    const int64_t padded = (tokens + TILE - 1) / TILE * TILE, group = heads / shared;
    const float scale = 1.0f / sqrtf(FEATURES);
    const int64_t lines = 2 * FEATURES * padded;
    const int64_t bytes = 4 * lines + (6 * STRIP + 4) * padded + 4 * STRIP * FEATURES + 1024;
#pragma omp parallel num_threads(threads)
    {
        void *const block = aligned_alloc(64, (bytes + 63) / 64 * 64);
        heap memory = {block};
        uint16_t *rows = take(&memory, lines), *shares = take(&memory, 2 * STRIP * padded);
        uint16_t *asking = take(&memory, lines);
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
            pair_rows(rows, padded, values);
            for (int64_t h = line * group; h < (line + 1) * group; h++) {
                gather(query + text * q->text + h * q->head, q->token, tokens, padded, asking);
                for (int64_t i = 0; i < tokens; i += STRIP) {
                    const int64_t begin = from[i] / LANES * LANES;
                    for (int64_t t = begin / TILE; t <= i / TILE; t++)
                        for (int r = 0; r < STRIP; r += ROWS) {
                            vector found[ROWS][4] = {0};
                            add_products((int32_t *)(asking + (i + r) * FEATURES), PAIRS, 1,
                                         keys + t * PAIRS * TILE, TILE, PAIRS, 4, found);
                            for (int s = 0; s < ROWS; s++)
                                for (int c = 0; c < 4; c++)
                                    store_sums(scores + (r + s) * padded + t * TILE + c * LANES,
                                               found[s][c] * scale);
                        }
                    float log[STRIP], counts[STRIP];
                    soften(scores, shares, log, counts, i, begin, padded, from);
                    memset(sums, 0, 4 * STRIP * FEATURES);
                    for (int r = 0; r < STRIP; r += ROWS)
                        add_rows((int32_t *)(shares + r * padded + begin), padded / 2, 1,
                                 values + begin / 2 * FEATURES, (i + STRIP - begin) / 2,
                                 sums + r * FEATURES);
                    for (int64_t r = 0; r < STRIP && i + r < tokens; r++) {
                        uint16_t *to = mixed + text * o->text + h * o->head + (i + r) * o->token;
                        for (int w = 0; w < WIDE; w++)
                            store_short(to + w * LANES,
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
   and the gradients of their scores, in bf16, by key, and these also in pairs of keys, by tile of
   queries. */
static inline __attribute__((always_inline)) void look_back(
    const uint16_t *key, const uint16_t *value, const int32_t *queries, const int32_t *wanted,
    const float *logs, const float *owed, const int32_t *starts, int64_t j, int64_t first, int64_t end,
    int64_t padded, uint16_t *shares, uint16_t *changes, int32_t *pairs) {
    const float scale = 1.0f / sqrtf(FEATURES);
    for (int64_t t = first; t < end; t++) {
        vector score[ROWS][4] = {0}, gain[ROWS][4] = {0};
        add_products((const int32_t *)key, PAIRS, 1, queries + t * PAIRS * TILE, TILE, PAIRS, 4, score);
        add_products((const int32_t *)value, PAIRS, 1, wanted + t * PAIRS * TILE, TILE, PAIRS, 4, gain);
        for (int c = 0; c < 4; c++) {
            const int64_t i = t * TILE + c * LANES, at = i - first * TILE;
            if (i + LANES <= j) continue; /* nobody reads what no query sees */
            const vector log = load_sums(logs + i), own = load_sums(owed + i);
            const __m512i start = _mm512_loadu_si512(starts + i);
            const __m512i place = _mm512_add_epi32(
                (__m512i)__builtin_convertvector(counting(), whole), _mm512_set1_epi32(i));
            __m256i narrow_ones[ROWS];
            for (int r = 0; r < ROWS; r++) {
                const __m512i key_at = _mm512_set1_epi32(j + r);
                const __mmask16 seen = _mm512_cmple_epi32_mask(start, key_at) &
                                       _mm512_cmple_epi32_mask(key_at, place);
                /* what is hidden may be larger than the largest that was seen */
                const vector known = (vector)_mm512_mask_mov_ps(
                    _mm512_set1_ps(-1e30f), seen, (__m512)(score[r][c] * scale - log));
                const vector share = (vector)_mm512_maskz_mov_ps(seen, (__m512)power(known));
                const vector change = share * (gain[r][c] - own) * scale;
                store_short(shares + r * padded + at, share);
                narrow_ones[r] = shortened(change);
                _mm256_storeu_si256((__m256i *)(changes + r * padded + at), narrow_ones[r]);
            }
            for (int r = 0; r < ROWS; r += 2) {
                const __m512i low = _mm512_cvtepu16_epi32(narrow_ones[r]);
                const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow_ones[r + 1]), 16);
                _mm512_storeu_si512(pairs + (t - first) * TILE / 2 * TILE + r / 2 * TILE + c * LANES,
                                    _mm512_or_si512(low, high));
            }
        }
    }
}

/* The gradients of query, key and value, given that of `mixed`; all as in attend_forward. */
void attend_backward(const uint16_t *query, const uint16_t *key, const uint16_t *value,
                     const uint16_t *mixed, const float *all_logs, const int32_t *starts,
                     const uint16_t *grad,
                     uint16_t *to_query, uint16_t *to_key, uint16_t *to_value, const steps *q,
                     const steps *k, const steps *v, const steps *o, const steps *g, const steps *dq,
                     const steps *dk, const steps *dv, int64_t texts, int64_t heads, int64_t shared,
                     int64_t tokens, int64_t threads) {
    const int64_t padded = (tokens + TILE - 1) / TILE * TILE, group = heads / shared;
    const int64_t lines = 2 * FEATURES * padded, blocks = 4 * TILE / 2 * padded;
    const int64_t bytes = 15 * lines + 4 * ROWS * padded + blocks + 12 * padded + 2048;
#pragma omp parallel num_threads(threads)
    {
        void *const block = aligned_alloc(64, (bytes + 63) / 64 * 64);
        heap memory = {block};
        uint16_t *keys = take(&memory, lines), *values = take(&memory, lines);
        uint16_t *asking = take(&memory, lines), *asked = take(&memory, lines);
        int32_t *key_pairs = take(&memory, lines), *queries = take(&memory, lines);
        int32_t *query_pairs = take(&memory, lines), *wanted = take(&memory, lines);
        int32_t *wanted_pairs = take(&memory, lines);
        float *query_sums = take(&memory, 2 * lines), *key_sums = take(&memory, 2 * lines);
        float *value_sums = take(&memory, 2 * lines);
        uint16_t *shares = take(&memory, 2 * ROWS * padded), *changes = take(&memory, 2 * ROWS * padded);
        int32_t *change_pairs = take(&memory, blocks);
        float *logs = take(&memory, 4 * padded), *owed = take(&memory, 4 * padded);
        int32_t *from = take(&memory, 4 * padded);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < texts * shared; n++) {
            const int64_t text = n / shared, line = n % shared;
            gather(key + text * k->text + line * k->head, k->token, tokens, padded, keys);
            gather(value + text * v->text + line * v->head, v->token, tokens, padded, values);
            pair_rows(keys, padded, key_pairs);
            gather_starts(starts ? starts + text * tokens : 0, tokens, padded, from);
            memset(key_sums, 0, 2 * lines);
            memset(value_sums, 0, 2 * lines);
            for (int64_t h = line * group; h < (line + 1) * group; h++) {
                gather(query + text * q->text + h * q->head, q->token, tokens, padded, asking);
                gather(grad + text * g->text + h * g->head, g->token, tokens, padded, asked);
                lay_sideways(asking, padded, queries);
                pair_rows(asking, padded, query_pairs);
                lay_sideways(asked, padded, wanted);
                pair_rows(asked, padded, wanted_pairs);
                memset(query_sums, 0, 2 * lines);
                for (int64_t i = 0; i < padded; i++) {
                    vector sum = {0};
                    const uint16_t *row = mixed + text * o->text + h * o->head + i * o->token;
                    for (int w = 0; w < WIDE && i < tokens; w++)
                        sum += load_bf16(row + w * LANES) * load_bf16(asked + i * FEATURES + w * LANES);
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
                                  change_pairs + (j - start) / 2 * TILE);
                        add_rows((int32_t *)(shares + j - start), padded / 2, 1,
                                 wanted_pairs + j / 2 * FEATURES, (end * TILE - j) / 2,
                                 value_sums + j * FEATURES);
                        add_rows((int32_t *)(changes + j - start), padded / 2, 1,
                                 query_pairs + j / 2 * FEATURES, (end * TILE - j) / 2,
                                 key_sums + j * FEATURES);
                    }
                    for (int64_t i = start; i < end * TILE; i += ROWS) {
                        const int64_t before = i - start + ROWS < TILE ? i - start + ROWS : TILE;
                        add_rows(change_pairs + (i - start) / TILE * TILE / 2 * TILE + i % TILE, 1, TILE,
                                 key_pairs + start / 2 * FEATURES, before / 2, query_sums + i * FEATURES);
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
