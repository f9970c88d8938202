---@meta _
-- SPDX-License-Identifier: MIT
--
-- tensor.lua: for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.

---@class moonbow.Tensor
local Tensor = {}

--- The negative of a.
---@return moonbow.Tensor|number
function Tensor:neg() end

--- |a|
---@return moonbow.Tensor|number
function Tensor:abs() end

--- The sign of a: -1, 0 or 1.
---@return moonbow.Tensor|number
function Tensor:sign() end

--- e^a
---@return moonbow.Tensor|number
function Tensor:exp() end

--- The natural logarithm: of 0 it is -inf, of less NaN.
---@return moonbow.Tensor|number
function Tensor:log() end

--- The square root; of a negative number NaN.
---@return moonbow.Tensor|number
function Tensor:sqrt() end

--- a^2
---@return moonbow.Tensor|number
function Tensor:square() end

--- 1 / a
---@return moonbow.Tensor|number
function Tensor:reciprocal() end

--- tanh(a)
---@return moonbow.Tensor|number
function Tensor:tanh() end

--- 1 / (1 + e^-a)
---@return moonbow.Tensor|number
function Tensor:sigmoid() end

--- a sigmoid(a), also called swish (Elfwing, Uchibe, Doya 2017).
---@return moonbow.Tensor|number
function Tensor:silu() end

--- max(a, 0)
---@return moonbow.Tensor|number
function Tensor:relu() end

--- GELU in GPT-2's form: a / 2 (1 + tanh(sqrt(2 / pi) (a + 0.044715 a^3))) (Hendrycks, Gimpel 2016).
---@return moonbow.Tensor|number
function Tensor:gelu_tanh() end

--- GELU: a Phi(a), Phi the normal distribution function. Of tensors alone.
---@return moonbow.Tensor|number
function Tensor:gelu_erf() end

--- The other name of gelu_tanh.
---@return moonbow.Tensor|number
function Tensor:gelu() end

--- 1 / sqrt(a)
---@return moonbow.Tensor|number
function Tensor:rsqrt() end

--- a + b. Shapes are broadcast as NumPy does it, here and in all functions of two tensors: sizes are compared from the last
--- dimension on, and a size of 1 or a missing one is stretched. Both have one dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:add(b) end

--- a - b, broadcast.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:sub(b) end

--- a b, element by element, broadcast.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:mul(b) end

--- a / b, broadcast.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:div(b) end

--- a^b, broadcast.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:pow(b) end

--- The lesser of a and b, element by element.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:minimum(b) end

--- The greater of a and b, element by element.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:maximum(b) end

--- a < b, element by element: 1 or 0 in a's dtype. Operators of Lua cannot do that: `a < b` of tensors is an error.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:less(b) end

--- a <= b, element by element: 1 or 0 in a's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:less_equal(b) end

--- Same shape, dtype and values? NaN is unequal to all.
---@param b moonbow.Tensor
---@return boolean
function Tensor:equal(b) end

--- a < b, element by element: 1 or 0 in a's dtype. Operators of Lua cannot do that: `a < b` of tensors is an error.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:lt(b) end

--- a <= b, element by element: 1 or 0 in a's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:le(b) end

--- a == b, element by element: 1 or 0 in a's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:eq(b) end

--- a > b, element by element: 1 or 0 in b's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:greater(b) end

--- a >= b, element by element: 1 or 0 in b's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:greater_equal(b) end

--- a > b, element by element: 1 or 0 in b's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:gt(b) end

--- a >= b, element by element: 1 or 0 in b's dtype.
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:ge(b) end

--- condition ~= 0 and a or b, element by element; a and b may be numbers.
---@param a moonbow.Tensor|number
---@param b moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:where(a, b) end

--- min(max(a, low), high); either bound may be nil.
---@param low? moonbow.Tensor|number
---@param high? moonbow.Tensor|number
---@return moonbow.Tensor|number
function Tensor:clamp(low, high) end

--- scale * a + shift
---@param scale number
---@param shift number
---@return moonbow.Tensor
function Tensor:affine(scale, shift) end

--- Sum over `dims`, a dimension or an array of them, or over all elements; keepdim leaves size 1 behind.
---@param dims? integer|integer[]
---@param keepdim? boolean|{ keepdim: boolean }
---@return moonbow.Tensor
function Tensor:sum(dims, keepdim) end

--- Mean over `dims`, or over all elements.
---@param dims? integer|integer[]
---@param keepdim? boolean|{ keepdim: boolean }
---@return moonbow.Tensor
function Tensor:mean(dims, keepdim) end

--- Largest element over `dims`, or of all.
---@param dims? integer|integer[]
---@param keepdim? boolean|{ keepdim: boolean }
---@return moonbow.Tensor
function Tensor:max(dims, keepdim) end

--- Smallest element over `dims`, or of all.
---@param dims? integer|integer[]
---@param keepdim? boolean|{ keepdim: boolean }
---@return moonbow.Tensor
function Tensor:min(dims, keepdim) end

--- Position of the largest element along `dim`, as data: counts from 0. Without dim, over all elements.
---@param dim? integer
---@param keepdim? boolean
---@return moonbow.Tensor positions i32
function Tensor:argmax(dim, keepdim) end

--- Euclidean norm of all elements, or along `dims`.
---@param dims? integer|integer[]
---@param keepdim? boolean
---@return moonbow.Tensor
function Tensor:norm(dims, keepdim) end

--- op(a) op(b) over the last two dimensions: (..., m, k) (..., k, n) -> (..., m, n).
---@param b moonbow.Tensor
---@param options? { transpose_a?: boolean, transpose_b?: boolean }
---@return moonbow.Tensor
function Tensor:matmul(b, options) end

--- x weight^T + bias: x (..., in), weight (out, in), bias (out) or nil -> (..., out)
---@param weight moonbow.Tensor
---@param bias? moonbow.Tensor
---@return moonbow.Tensor
function Tensor:linear(weight, bias) end

--- linear(x, weight, bias) whose rows begin at multiples of 128 bytes (16 if they are short): a view, unless they do anyway. For
--- logits of a large odd vocabulary that go into a loss.
---@param weight moonbow.Tensor
---@param bias? moonbow.Tensor
---@return moonbow.Tensor
function Tensor:linear_aligned(weight, bias) end

--- linear(gelu_tanh(x), weight, bias) in less memory: the backward computes gelu_tanh(x) again.
---@param weight moonbow.Tensor
---@param bias? moonbow.Tensor
---@return moonbow.Tensor
function Tensor:gelu_linear(weight, bias) end

--- gelu_linear(linear(x, weight, bias), weight_out, bias_out): a network of one hidden layer, whose GELU is made where the first
--- product is. The backward computes GELU again, or takes what is kept of it.
---@param weight moonbow.Tensor (hidden, in)
---@param bias moonbow.Tensor|nil (hidden)
---@param weight_out moonbow.Tensor (out, hidden)
---@param bias_out? moonbow.Tensor (out)
---@param keep? boolean default false
---@return moonbow.Tensor
function Tensor:gelu_mlp(weight, bias, weight_out, bias_out, keep) end

--- Rows of a table: weight (V, C), ids any shape of integers, from 0 -> ids' shape x (C)
---@param ids moonbow.Tensor
---@return moonbow.Tensor
function Tensor:embedding(ids) end

--- Layer normalization over the last dimension (Ba, Kiros, Hinton 2016): weight (x - mean) / sqrt(variance + epsilon) + bias,
--- with weight and bias (C) or nil.
---@param weight? moonbow.Tensor
---@param bias? moonbow.Tensor
---@param epsilon? number default 1e-5
---@return moonbow.Tensor
function Tensor:layernorm(weight, bias, epsilon) end

--- Root mean square normalization over the last dimension (Zhang, Sennrich 2019): weight x / sqrt(mean of x^2 + epsilon).
---@param weight? moonbow.Tensor (C)
---@param epsilon? number default 1e-6
---@return moonbow.Tensor
function Tensor:rmsnorm(weight, epsilon) end

--- layernorm(x + added, weight, bias, epsilon) and x + added, in one pass over memory.
---@param added moonbow.Tensor of x's shape
---@param weight? moonbow.Tensor
---@param bias? moonbow.Tensor
---@param epsilon? number default 1e-5
---@return moonbow.Tensor norm
---@return moonbow.Tensor sum
function Tensor:add_layernorm(added, weight, bias, epsilon) end

--- rmsnorm(x + added, weight, epsilon) and x + added, in one pass over memory.
---@param added moonbow.Tensor of x's shape
---@param weight? moonbow.Tensor (C)
---@param epsilon? number default 1e-6
---@return moonbow.Tensor norm
---@return moonbow.Tensor sum
function Tensor:add_rmsnorm(added, weight, epsilon) end

--- Rotary position embedding (Su et al. 2021).
---@param base? number default 10000
---@param first_position? integer of x's first token, counted from 0, the default
---@return moonbow.Tensor
function Tensor:rotary(base, first_position) end

--- e^a over its sum along a dimension.
---@param dim? integer default: the last
---@return moonbow.Tensor
function Tensor:softmax(dim) end

--- The logarithm of softmax, without its underflow.
---@param dim? integer default: the last
---@return moonbow.Tensor
function Tensor:log_softmax(dim) end

--- Causal attention, softmax(scale q k^T) v, over q, k, v (B, T, H, D) -> (B, T, H, D).
---@param k moonbow.Tensor
---@param v moonbow.Tensor
---@param scale? number default 1 / sqrt(D)
---@return moonbow.Tensor
function Tensor:attention(k, v, scale) end

--- Causal attention over queries, keys and values side by side: qkv (B, T, 3 C) -> (B, T, C).
---@param n_head integer which divides C
---@param scale? number default 1 / sqrt(C / n_head)
---@return moonbow.Tensor
function Tensor:attention_packed(n_head, scale) end

--- Causal attention for qkv (B, T, 3 C) of positions from `first` (counted from 0) on, the past in a cache (2, B, H, N, D) of
--- keys and values, which takes in the new ones. Not recorded.
---@param cache moonbow.Tensor
---@param first integer
---@param scale? number default 1 / sqrt(D)
---@return moonbow.Tensor (B, T, C)
function Tensor:attention_cached(cache, first, scale) end

--- Zeroes with probability p and scales the rest by 1 / (1 - p). Takes one random stream.
---@param p number in [0, 1)
---@return moonbow.Tensor
function Tensor:dropout(p) end

--- logits (..., V), targets (...) of ids -> a tensor without dimensions; mb.cross_entropy has options by name.
---@param targets moonbow.Tensor
---@param label_smoothing? number
---@param ignore_index? integer
---@param reduce? "mean"|"sum"
---@param scale? number by which the loss is multiplied
---@return moonbow.Tensor
function Tensor:cross_entropy(targets, label_smoothing, ignore_index, reduce, scale) end

--- The same of the logits x W^T in chunks of rows, x (..., C), weight (V, C); mb.linear_cross_entropy has options by name.
---@param weight moonbow.Tensor
---@param targets moonbow.Tensor
---@param chunks integer
---@param label_smoothing? number
---@param ignore_index? integer
---@param reduce? "mean"|"sum"
---@param scale? number
---@return moonbow.Tensor
function Tensor:linear_cross_entropy(weight, targets, chunks, label_smoothing, ignore_index, reduce, scale) end

--- Same elements in another shape; one size may be -1. A view where the layout allows one.
---@param ... integer|integer[] sizes, or one array of them
---@return moonbow.Tensor
function Tensor:reshape(...) end

--- All elements in one dimension, in the order of rows.
---@return moonbow.Tensor
function Tensor:flatten() end

--- A view broadcast to a shape.
---@param ... integer|integer[] sizes, or one array of them
---@return moonbow.Tensor
function Tensor:expand(...) end

--- A view with two dimensions exchanged; the last two if none are named.
---@param dim1? integer
---@param dim2? integer
---@return moonbow.Tensor
function Tensor:transpose(dim1, dim2) end

--- A view with its dimensions in the given order: permute(a, 2, 1) transposes a matrix.
---@param ... integer|integer[] dimensions, or one array of them
---@return moonbow.Tensor
function Tensor:permute(...) end

--- A view of positions first..last of a dimension, as string.sub counts: from 1, the last one included,
--- negative ones from the end.
---@param dim integer
---@param first? integer default 1
---@param last? integer default: the last
---@param step? integer default 1
---@return moonbow.Tensor
function Tensor:slice(dim, first, last, step) end

--- The slice at one position of a dimension, without that dimension: select(a, 1, 3) is the third row.
---@param dim integer
---@param position integer
---@return moonbow.Tensor
function Tensor:select(dim, position) end

--- The same elements with a dimension of size 1 put at `dim`.
---@param dim integer
---@return moonbow.Tensor
function Tensor:unsqueeze(dim) end

--- Without dimension `dim`, which has size 1; without any such dimension if none is named.
---@param dim? integer
---@return moonbow.Tensor
function Tensor:squeeze(dim) end

--- out[i][j] = a[index[i][j]][j] for dim 1, and so on; index (i32) counts from 0, being data.
---@param dim integer
---@param index moonbow.Tensor
---@return moonbow.Tensor
function Tensor:gather(dim, index) end

--- A copy.
---@return moonbow.Tensor
function Tensor:clone() end

--- The elements in the order of rows: a copy, or `a` itself where they lie so.
---@return moonbow.Tensor
function Tensor:contiguous() end

--- Same memory, no history.
---@return moonbow.Tensor
function Tensor:detach() end

--- The tensor as another dtype, or on another device; `a` itself if it is so already.
---@param name "f32"|"f64"|"bf16"|"i32"|"u16"|"u8"|"cpu"|"cuda" a dtype or a device
---@param rounding? "nearest"|"stochastic" to bf16: to one of the two neighbours at random, so that the mean is the element
---@return moonbow.Tensor
function Tensor:to(name, rounding) end

--- t = value
---@param value number
---@return moonbow.Tensor t
function Tensor:fill_(value) end

--- t = 0
---@return moonbow.Tensor t
function Tensor:zero_() end

--- t = source, broadcast and converted to t's dtype
---@param source moonbow.Tensor
---@return moonbow.Tensor t
function Tensor:copy_(source) end

--- t = scale * t + shift
---@param scale number
---@param shift number
---@return moonbow.Tensor t
function Tensor:affine_(scale, shift) end

--- t += alpha * a; a is a tensor or a number
---@param a moonbow.Tensor|number
---@param alpha? number default 1
---@return moonbow.Tensor t
function Tensor:add_(a, alpha) end

--- t -= alpha * a
---@param a moonbow.Tensor|number
---@param alpha? number default 1
---@return moonbow.Tensor t
function Tensor:sub_(a, alpha) end

--- t *= a
---@param a moonbow.Tensor|number
---@return moonbow.Tensor t
function Tensor:mul_(a) end

--- t *= a
---@param a moonbow.Tensor|number
---@return moonbow.Tensor t
function Tensor:scale_(a) end

--- t /= a
---@param a moonbow.Tensor|number
---@return moonbow.Tensor t
function Tensor:div_(a) end

--- t += weight * (a - t)
---@param a moonbow.Tensor
---@param weight number
---@return moonbow.Tensor t
function Tensor:lerp_(a, weight) end

--- Fills with normal numbers; takes one random stream.
---@param mean? number default 0
---@param std? number default 1
---@return moonbow.Tensor t
function Tensor:randn_(mean, std) end

--- Fills with uniform numbers in [low, high); takes one random stream.
---@param low? number default 0
---@param high? number default 1
---@return moonbow.Tensor t
function Tensor:uniform_(low, high) end

--- Makes a leaf want a gradient, or not.
---@param on? boolean default true
---@return moonbow.Tensor t
function Tensor:requires_grad_(on) end

--- The gradient counts as zero.
---@return moonbow.Tensor t
function Tensor:zero_grad() end

--- Adds d self / d leaf to the gradient of every leaf this was made from, and frees the graph.
---@param seed? moonbow.Tensor gradient to start from, 1 for a tensor of one element
function Tensor:backward(seed) end

--- Gives the memory back now; any later use is an error. For memory that cannot wait for the collector.
function Tensor:discard() end

--- The elements as nested tables; a number for a tensor without dimensions.
---@return table|number
function Tensor:totable() end

--- The value of a tensor with one element.
---@return number
function Tensor:item() end

--- Address of the first element of a tensor on the CPU, typed, valid while the tensor is held.
---@return ffi.cdata*
function Tensor:data() end

--- The elements as a string of little-endian numbers.
---@return string
function Tensor:bytes() end

--- Same shape, and |a - b| <= atol + rtol |b| everywhere? Dtypes may differ.
---@param b moonbow.Tensor
---@param options? { rtol?: number, atol?: number } default 1e-5, 1e-8
---@return boolean
---@return string? where it differs most
function Tensor:allclose(b, options) end

