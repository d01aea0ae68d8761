/* Attention to lines of keys and values, for llm/native.py: plain C with the vectors of gcc and clang.

   NUMBER is what keys, values, queries and results are stored as (BF16: 1 or 0), FEATURES those of
   a head, a multiple of 16. Sums are fp32. Keys lie in groups of GROUP tokens with the tokens side
   by side, so that a product of a query with a group adds up whole vectors; values lie token by
   token. Each query is worked out in the same order whatever is computed beside it. */

#include <omp.h>

#include "vectors.h"

#define GROUP 32
#define PARTS (GROUP / LANES)
#define WIDE (FEATURES / LANES)

#if BF16
typedef uint16_t number;
#define widen widen_bf16
#define shorten shorten_bf16
#define load load_bf16
#else
typedef float number;
#define widen(x) (x)
#define shorten(x) (x)
#define load load_floats
#endif

/* The queries of one head of `count` tokens that follow each other in a line, the first at `place`. */
static inline __attribute__((always_inline)) void look(
    const int count, const float *query, number *out, int64_t step, const number *keys,
    const number *values, int64_t place, float *scores, int64_t room) {
    const float scale = 1.0f / sqrtf(FEATURES);
    const int64_t seen = place + count, groups = (seen + GROUP - 1) / GROUP;
    for (int64_t g = 0; g < groups; g++) {
        const number *group = keys + g * GROUP * FEATURES;
        vector sums[4][PARTS];
        for (int i = 0; i < count; i++)
            for (int p = 0; p < PARTS; p++) sums[i][p] = (vector){0};
        for (int e = 0; e < FEATURES; e++)
            for (int p = 0; p < PARTS; p++) {
                const vector key = load(group + e * GROUP + p * LANES);
                for (int i = 0; i < count; i++) sums[i][p] += key * query[i * step + e];
            }
        for (int i = 0; i < count; i++)
            for (int p = 0; p < PARTS; p++) {
                const vector scaled = sums[i][p] * scale;
                memcpy(scores + i * room + g * GROUP + p * LANES, &scaled, sizeof scaled);
            }
    }
    float totals[4];
    for (int i = 0; i < count; i++) {
        float *row = scores + i * room, most = row[0];
        const int64_t own = place + i + 1;
        for (int64_t s = own; s < groups * GROUP; s++) row[s] = -INFINITY;
        vector best = load_floats(row);
        for (int64_t s = LANES; s < groups * GROUP; s += LANES) {
            const vector here = load_floats(row + s);
            const whole more = here > best;
            best = (vector)((more & (whole)here) | (~more & (whole)best));
        }
        for (int l = 0; l < LANES; l++) most = best[l] > most ? best[l] : most;
        vector total = {0};
        for (int64_t s = 0; s < groups * GROUP; s += LANES) {
            const vector weight = power(load_floats(row + s) - most);
            memcpy(row + s, &weight, sizeof weight);
        }
        for (int64_t s = own; s < groups * GROUP; s++) row[s] = 0;
        for (int64_t s = 0; s < groups * GROUP; s += LANES) total += load_floats(row + s);
        totals[i] = added_up(total);
    }
    vector mixed[4][WIDE];
    for (int i = 0; i < count; i++)
        for (int w = 0; w < WIDE; w++) mixed[i][w] = (vector){0};
    for (int64_t s = 0; s < seen; s++)
        for (int w = 0; w < WIDE; w++) {
            const vector value = load(values + s * FEATURES + w * LANES);
            for (int i = 0; i < count; i++) mixed[i][w] += value * scores[i * room + s];
        }
    for (int i = 0; i < count; i++)
        for (int w = 0; w < WIDE; w++)
            for (int l = 0; l < LANES; l++)
                out[i * step + w * LANES + l] = shorten(mixed[i][w][l] / totals[i]);
}

/* Turns pairs of features that lie side by side; `turn` is null where nothing is turned. */
static inline void turned(const number *from, const float *turn, float *to) {
    for (int e = 0; e < FEATURES; e += 2) {
        const float a = widen(from[e]), b = widen(from[e + 1]);
        const float c = turn ? turn[e] : 1.0f, s = turn ? turn[e + 1] : 0.0f;
        to[e] = a * c - b * s;
        to[e + 1] = a * s + b * c;
    }
}

/* qkv: (tokens, 3, heads, FEATURES) -> out: (tokens, heads, FEATURES).
   keys: (lines, heads, room / GROUP, FEATURES, GROUP); values: (lines, heads, room, FEATURES);
   lines, places: of each token; turns: (context, FEATURES) or null;
   items: (2, n): first token and count, at most 4, of tokens that are looked after together;
   queries: (tokens, heads, FEATURES) to work in; scores: (threads, 4, room), too. */
void attend(const number *qkv, number *out, number *keys, number *values, const int64_t *lines,
            const int64_t *places, const float *turns, const int64_t *items, float *queries,
            float *all_scores, int64_t tokens, int64_t heads, int64_t room, int64_t count,
            int64_t threads) {
    const int64_t width = heads * FEATURES;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < tokens * heads; i++) {
            const int64_t n = i / heads, h = i % heads, place = places[n];
            const number *from = qkv + n * 3 * width + h * FEATURES;
            const float *turn = turns ? turns + place * FEATURES : 0;
            const int64_t line = (lines[n] * heads + h) * room * FEATURES;
            float key[FEATURES];
            turned(from, turn, queries + n * width + h * FEATURES);
            turned(from + width, turn, key);
            number *to = keys + line + place / GROUP * GROUP * FEATURES + place % GROUP;
            for (int e = 0; e < FEATURES; e++) to[e * GROUP] = shorten(key[e]);
            memcpy(values + line + place * FEATURES, from + 2 * width, FEATURES * sizeof(number));
        }
#pragma omp for schedule(dynamic, 4)
        for (int64_t i = 0; i < count * heads; i++) {
            const int64_t n = items[i / heads], h = i % heads;
            const int together = items[count + i / heads];
            const int64_t line = (lines[n] * heads + h) * room * FEATURES;
            const float *query = queries + n * width + h * FEATURES;
            number *to = out + n * width + h * FEATURES;
            float *scores = all_scores + omp_get_thread_num() * 4 * room;
            if (together == 4)
                look(4, query, to, width, keys + line, values + line, places[n], scores, room);
            else
                for (int k = 0; k < together; k++)
                    look(1, query + k * width, to + k * width, width, keys + line, values + line,
                         places[n] + k, scores, room);
        }
    }
}
