"""The loss of a batch in TensorFlow's own operations, which can be differentiated."""

from __future__ import annotations

import tensorflow as tf

from dpsr.config import LossConfig


def batch_loss(
    heads: tf.Tensor,
    vectors: tf.Tensor,
    query_rows: tf.Tensor,
    item_rows: tf.Tensor,
    config: LossConfig,
    attention_temperature: float,
    occurrences: tf.Tensor | None = None,
    clicked: tf.Tensor | None = None,
    hard: tf.RaggedTensor | None = None,
    row_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """``dpsr.training.losses.batch_loss``, whose arguments these are, in stock operations; float32 []."""
    rows = tf.shape(heads)[0]
    of_hard = None
    if hard is not None:
        vectors, hard_vectors = tf.split(vectors, [tf.shape(vectors)[0] - tf.size(hard.values), tf.size(hard.values)])
        of_hard = _own_scores(tf.gather(heads, hard.value_rowids()), hard_vectors, attention_temperature)
    positive, negatives, mask = _scores(heads, vectors, query_rows, item_rows, config, attention_temperature, clicked)
    if occurrences is not None:
        corrections = config.temperature * tf.math.log(tf.gather(occurrences, item_rows))
        positive -= corrections[:rows]
        negatives -= _by_negative(corrections, rows, config)
    hard_mask = tf.zeros([rows, 0], tf.bool)
    hard_negatives = tf.zeros([rows, 0])
    if hard is not None:
        hard_negatives = hard.with_values(of_hard).to_tensor()
        hard_mask = tf.sequence_mask(hard.row_lengths(), tf.shape(hard_negatives)[1])
    if config.kind == "three_part":
        return three_part_hinge_loss(
            positive, hard_negatives, hard_mask, negatives, mask, config.thresholds, row_weights
        )
    if hard is not None:
        negatives, mask = tf.concat([negatives, hard_negatives], 1), tf.concat([mask, hard_mask], 1)
    if config.kind == "hinge":
        return hinge_loss(positive, negatives, mask, config.margin, row_weights)
    return sampled_softmax_loss(positive, negatives, mask, config.temperature, row_weights)


def _scores(
    heads: tf.Tensor,
    vectors: tf.Tensor,
    query_rows: tf.Tensor,
    item_rows: tf.Tensor,
    config: LossConfig,
    beta: float,
    clicked: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Scores of the positives [B], of the negatives [B, N] (batch, then random), and which of these count [B, N]."""
    rows = tf.shape(heads)[0]
    positives, randoms = tf.split(vectors, [rows, tf.shape(vectors)[0] - rows])
    positive_rows = item_rows[:rows]
    negatives, masks = [], []
    if config.mixing_ratio < 1.0:
        grouped_heads, grouped_items = (split_into_groups(values, config.group_size) for values in (heads, positives))
        of_group = soft_dot_product(grouped_heads, grouped_items, beta)
        positive = tf.reshape(tf.linalg.diag_part(of_group), [rows])
        names = [split_into_groups(values, config.group_size) for values in (query_rows, positive_rows)]
        negatives.append(tf.reshape(of_group, [rows, config.group_size]))
        masks.append(tf.reshape(batch_negative_mask(*names), [rows, config.group_size]))
    else:
        positive = _own_scores(heads, positives, beta)
    if config.mixing_ratio > 0.0:
        negatives.append(soft_dot_product(heads, randoms, beta))
        masks.append(random_negative_mask(positive_rows, item_rows[rows:]))
    mask = tf.concat(masks, axis=1)
    if clicked is not None:
        mask &= ~_negatives_of(clicked, rows, config)
    return positive, tf.concat(negatives, axis=1), mask


def _own_scores(heads: tf.Tensor, vectors: tf.Tensor, beta: float) -> tf.Tensor:
    """The score of every row's own item: float32 [n, m, d] and [n, d] to [n]."""
    return tf.reshape(soft_dot_product(heads[:, tf.newaxis], vectors[:, tf.newaxis], beta), [tf.shape(heads)[0]])


def _negatives_of(values: tf.Tensor, rows: tf.Tensor, config: LossConfig) -> tf.Tensor:
    """Picks from [B, B + R] what belongs to the negatives of every row, as ``batch_loss`` lines them up: [B, N]."""
    of_positives, of_randoms = values[:, :rows], values[:, rows:]
    parts = []
    if config.mixing_ratio < 1.0:
        group = config.group_size
        columns = group * (tf.range(rows) // group)[:, tf.newaxis] + tf.range(group)
        parts.append(tf.gather(of_positives, columns, batch_dims=1))
    if config.mixing_ratio > 0.0:
        parts.append(of_randoms)
    return tf.concat(parts, axis=1)


def _by_negative(values: tf.Tensor, rows: tf.Tensor, config: LossConfig) -> tf.Tensor:
    """Spreads a value of each of the B + R items over the negatives of every row, as ``batch_loss`` lines them up."""
    spread = []
    if config.mixing_ratio < 1.0:
        spread.append(tf.repeat(split_into_groups(values[:rows], config.group_size), config.group_size, axis=0))
    if config.mixing_ratio > 0.0:
        spread.append(tf.broadcast_to(values[rows:], [rows, tf.size(values) - rows]))
    return tf.concat(spread, axis=1)


def hinge_loss(
    positive: tf.Tensor,
    negatives: tf.Tensor,
    mask: tf.Tensor,
    margin: float,
    row_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Sums ``max(0, margin - positive + negative)`` over the negatives of a row; the mean of that over rows.

    Args:
        positive: float32 [B], scores.
        negatives: float32 [B, N], scores.
        mask: bool [B, N], True where a negative counts.
        margin: delta, in units of the score.
        row_weights: float32 [B], factors of the rows' losses; None for 1.

    Returns:
        float32 [].
    """
    violations = tf.nn.relu(margin - positive[:, tf.newaxis] + negatives)
    return _mean(tf.reduce_sum(tf.where(mask, violations, 0.0), axis=1), row_weights)


def sampled_softmax_loss(
    positive: tf.Tensor,
    negatives: tf.Tensor,
    mask: tf.Tensor,
    temperature: float,
    row_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Cross-entropy of the positive among itself and its negatives; the mean over rows.

    Args:
        positive: float32 [B], scores.
        negatives: float32 [B, N], scores.
        mask: bool [B, N], True where a negative counts.
        temperature: divides the scores.
        row_weights: float32 [B], factors of the rows' losses; None for 1.

    Returns:
        float32 [].
    """
    logits = positive / temperature
    others = tf.where(mask, negatives / temperature, negatives.dtype.min)
    # Beside each other only after the sums: to concatenate [B, N] would copy it, and its gradient again.
    both = tf.stack([logits, tf.reduce_logsumexp(others, axis=1)], axis=1)
    return _mean(tf.reduce_logsumexp(both, axis=1) - logits, row_weights)


def three_part_hinge_loss(
    positive: tf.Tensor,
    hard: tf.Tensor,
    hard_mask: tf.Tensor,
    others: tf.Tensor,
    mask: tf.Tensor,
    thresholds: tuple[float, float, float],
    row_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Wants positives above one threshold, hard negatives below a second, all other items below a third.

    An item that was shown and passed over is still a likely answer, so it may score higher than a random one (Nigam et
    al., Semantic Product Search, KDD 2019, section 3.2). A row's parts are means over what counts in them.

    Args:
        positive: float32 [B], scores.
        hard: float32 [B, H], scores of hard negatives.
        hard_mask: bool [B, H], True where one counts.
        others: float32 [B, N], scores of batch and random negatives.
        mask: bool [B, N], True where one counts.
        thresholds: for the three parts, falling.
        row_weights: float32 [B], factors of the rows' losses; None for 1.

    Returns:
        float32 [], the mean over rows of the three parts' sum.
    """
    least, most_hard, most = thresholds
    total = tf.nn.relu(least - positive)
    for scores, counts, allowed in ((hard, hard_mask, most_hard), (others, mask, most)):
        excess = tf.where(counts, tf.nn.relu(scores - allowed), 0.0)
        total += tf.math.divide_no_nan(tf.reduce_sum(excess, 1), tf.reduce_sum(tf.cast(counts, excess.dtype), 1))
    return _mean(total, row_weights)


def _mean(losses: tf.Tensor, row_weights: tf.Tensor | None) -> tf.Tensor:
    """The mean over rows, float32 [B], of the weighted losses."""
    return tf.reduce_mean(losses if row_weights is None else row_weights * losses)


def soft_dot_product(heads: tf.Tensor, items: tf.Tensor, temperature: float) -> tf.Tensor:
    """Weighs the heads by how well they fit each item (paper, equation 3).

    ``G = sum_i w_i (e_i . g)`` with ``w = softmax_i(e_i . g / beta)``: the smaller the temperature, the closer to the
    best head alone.

    Args:
        heads: float32 [..., B, m, d].
        items: float32 [..., N, d].
        temperature: beta.

    Returns:
        float32 [..., B, N].
    """
    shape = tf.shape(heads)
    # One matrix product for all heads: [..., B * m, d] x [..., d, N].
    flat = tf.reshape(heads, tf.concat([shape[:-3], [shape[-3] * shape[-2], shape[-1]]], axis=0))
    products = tf.linalg.matmul(flat, items, transpose_b=True)
    if heads.shape[-2] == 1:
        return products
    products = tf.reshape(products, tf.concat([shape[:-1], [tf.shape(items)[-2]]], axis=0))
    weights = tf.nn.softmax(products / temperature, axis=-2)
    return tf.reduce_sum(weights * products, axis=-2)


def split_into_groups(values: tf.Tensor, group_size: int) -> tf.Tensor:
    """Reshapes [B, ...] to the groups of a step, [B / b, b, ...]; B is a multiple of b."""
    return tf.reshape(values, tf.concat([[-1, group_size], tf.shape(values)[1:]], axis=0))


def batch_negative_mask(query_rows: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
    """Marks which positives of a group are negatives of its other rows.

    A positive is no negative of a row with the same item, nor of a row with the same query: somebody clicked it there.

    Args:
        query_rows: int32 [..., b].
        item_rows: int32 [..., b], the positives.

    Returns:
        bool [..., b, b]; entry (i, j) says whether j's positive is a negative of i. False on the diagonal.
    """
    same_item = item_rows[..., :, tf.newaxis] == item_rows[..., tf.newaxis, :]
    same_query = query_rows[..., :, tf.newaxis] == query_rows[..., tf.newaxis, :]
    return ~(same_item | same_query)


def random_negative_mask(item_rows: tf.Tensor, random_rows: tf.Tensor) -> tf.Tensor:
    """Marks which random items are negatives of a row: all but its own positive.

    Args:
        item_rows: int32 [B], the positives.
        random_rows: int32 [R].

    Returns:
        bool [B, R].
    """
    return item_rows[:, tf.newaxis] != random_rows[tf.newaxis, :]
