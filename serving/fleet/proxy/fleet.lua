-- What HAProxy's own rules cannot say: the variant of an alias, the model's name inside a gRPC message, requests that
-- wait for a model to be loaded, and shadow traffic. Loaded once a thread: a state that threads share ended HAProxy 2.6
-- by a segmentation fault under filters.
--
-- Environment, set in haproxy.cfg: directory of the agent's sockets and maps; header that names the variant; seconds
-- that a request waits for a model.

local DIRECTORY = os.getenv("DPSR_RUN_DIR")
local VARIANT_HEADER, WAIT_SECONDS = os.getenv("DPSR_VARIANT_HEADER"), tonumber(os.getenv("DPSR_WAIT_SECONDS"))
local WAKE_SOCKET, SHADOW_SOCKET = "unix@" .. DIRECTORY .. "/wake.sock", "unix@" .. DIRECTORY .. "/shadow.sock"
local MOST_SHADOWS = 64 -- requests of shadow traffic in flight on a thread; further ones are dropped

local aliases = Map.new(DIRECTORY .. "/aliases.map", Map._str)
local parsed = {} -- text of an alias in the map -> its parts
local shadows_in_flight = 0

-- Statuses of gRPC.
local INVALID_ARGUMENT, UNAVAILABLE = "3", "14"

local function refuse(txn, code, text)
  txn:set_var("txn.code", code)
  txn:set_var("txn.refusal", text)
end

---------------------------------------------------------------------------------------------------- protocol buffers

-- Reads a varint of `text` at `place`; returns value and the place after it, or nil at the end of the text.
local function varint(text, place)
  local value, shift = 0, 0
  while true do
    local byte = text:byte(place)
    if byte == nil or shift > 63 then
      return nil
    end
    value = value | ((byte & 0x7f) << shift)
    place = place + 1
    if byte < 0x80 then
      return value, place
    end
    shift = shift + 7
  end
end

local function to_varint(value)
  local bytes = {}
  repeat
    local byte = value & 0x7f
    value = value >> 7
    bytes[#bytes + 1] = string.char(value > 0 and byte | 0x80 or byte)
  until value == 0
  return table.concat(bytes)
end

-- Calls visit(field, wire type, value, last) for every field between two places; stops when it returns something but
-- nil, and returns that. The value of a length-delimited field is the place where it begins, and `last` where it ends.
local function each_field(text, place, last, visit)
  while place <= last do
    local key, start = varint(text, place)
    if key == nil then
      return nil
    end
    local kind, value, stop = key & 7, nil, nil
    if kind == 0 then
      value, place = varint(text, start)
      if value == nil then
        return nil
      end
    elseif kind == 1 then
      value, place = start, start + 8
    elseif kind == 2 then
      local length
      length, value = varint(text, start)
      if length == nil then
        return nil
      end
      stop = value + length - 1
      place = stop + 1
    elseif kind == 5 then
      value, place = start, start + 4
    else
      return nil
    end
    local found = visit(key >> 3, kind, value, stop)
    if found ~= nil then
      return found
    end
  end
  return nil
end

-- First element of a TensorProto as text: string_val, int64_val, int_val, or the first eight bytes of tensor_content.
local function first_value(text, place, last)
  return each_field(text, place, last, function(field, kind, value, stop)
    if field == 8 and kind == 2 then
      return text:sub(value, stop)
    elseif field == 10 or field == 7 then
      local number = value
      if kind == 2 then
        number = varint(text, value)
      end
      return number and string.format("%d", number)
    elseif field == 4 and kind == 2 and stop >= value + 7 then
      return string.format("%d", (string.unpack("<i8", text, value)))
    end
  end)
end

-- First element of an input of a PredictRequest that stands behind the five bytes of gRPC's prefix.
local function input_value(body, name)
  return each_field(body, 6, #body, function(field, kind, value, stop)
    if field == 2 and kind == 2 then
      local key, tensor, tensor_stop
      each_field(body, value, stop, function(inner, _, inner_value, inner_stop)
        if inner == 1 then
          key = body:sub(inner_value, inner_stop)
        elseif inner == 2 then
          tensor, tensor_stop = inner_value, inner_stop
        end
      end)
      if key == name and tensor then
        return first_value(body, tensor, tensor_stop)
      end
    end
  end)
end

-- Finds the name where protobuf's writers put it: field 1 of the ModelSpec, which is field 1 of every request, behind
-- gRPC's prefix: 0a, length of the spec, 0a, length of the name, name. Returns where the spec's content begins and its
-- length, and the same of the name; nil where the message is another, which the protocol allows.
local HEAD_BYTES = 32

local function place_of_name(head)
  if head:byte(6) ~= 0x0a then
    return nil
  end
  local spec_length, spec = varint(head, 7)
  if spec_length == nil or head:byte(spec) ~= 0x0a then
    return nil
  end
  local name_length, name = varint(head, spec + 1)
  if name_length == nil or name + name_length > spec + spec_length then
    return nil
  end
  return spec, spec_length, name, name_length
end

-- Sets txn.model where HAProxy's own search has not found it: it ends at a spec whose first field is not the name.
core.register_action("find_model", { "http-req" }, function(txn)
  local body = txn.f:req_body()
  local model = each_field(body, 6, #body, function(field, kind, spec, spec_stop)
    if field == 1 and kind == 2 then
      return each_field(body, spec, math.min(spec_stop, #body), function(inner, inner_kind, value, stop)
        if inner == 1 and inner_kind == 2 and stop <= #body then
          return body:sub(value, stop)
        end
      end)
    end
  end)
  txn:set_var("txn.model", model or "")
end)

------------------------------------------------------------------------------------------------------------- aliases

-- "shop_v41:3865470566,shop_v42:4294967296|x-user|user_id|shop_v43:429496729": variants with the end of their part of
-- the 2^32 buckets, header and input of the sticky key or "-", and shadow models with the end of theirs.
local function parse_shares(text)
  local shares = {}
  for model, bound in text:gmatch("([^,:]+):(%d+)") do
    shares[#shares + 1] = { model = model, bound = tonumber(bound) }
  end
  return shares
end

local function parse_alias(text)
  local alias = parsed[text]
  if alias == nil then
    local variants, header, input, shadow = text:match("^([^|]*)|([^|]*)|([^|]*)|([^|]*)$")
    alias = { variants = parse_shares(variants), shadow = parse_shares(shadow) }
    alias.header = header ~= "-" and header or nil
    alias.input = input ~= "-" and input or nil
    parsed[text] = alias
  end
  return alias
end

local function random_bucket(txn)
  return txn.f:rand(65536) * 65536 + txn.f:rand(65536)
end

local function header_value(txn, name)
  local value = txn.f:req_hdr(name)
  return value ~= "" and value or nil
end

local function send_shadow(txn, model, path, body)
  if shadows_in_flight >= MOST_SHADOWS then
    txn:set_var("txn.shadow", "dropped")
    return
  end
  shadows_in_flight = shadows_in_flight + 1
  core.register_task(function()
    core.httpclient():post({
      url = "http://shadow" .. path,
      dst = SHADOW_SOCKET,
      headers = { ["x-dpsr-shadow"] = { model }, ["content-type"] = { "application/grpc" }, ["te"] = { "trailers" } },
      body = body,
      timeout = 10000,
    })
    shadows_in_flight = shadows_in_flight - 1
  end)
end

-- Chooses the variant of txn.alias: sets txn.model, txn.variant and, for a gRPC message, txn.rewrite_to.
core.register_action("choose_variant", { "http-req" }, function(txn)
  local name = txn:get_var("txn.alias")
  local text = aliases:lookup(name)
  if text == nil then
    return
  end
  local alias = parse_alias(text)
  local is_grpc = txn:get_var("txn.protocol") == "grpc"
  if is_grpc and place_of_name(txn:get_var("txn.head") or "") == nil then
    refuse(txn, INVALID_ARGUMENT, name .. " is an alias: model_spec has to be the message's first field, name the spec's")
    return
  end
  local forced, variant = header_value(txn, VARIANT_HEADER), nil
  local body = nil
  if is_grpc and (alias.input or #alias.shadow > 0) then
    body = txn.f:req_body()
  end
  if forced then
    txn:set_var("txn.forced", "true")
    local names = {}
    for _, share in ipairs(alias.variants) do
      names[#names + 1] = share.model
      if share.model == forced then
        variant = forced
      end
    end
    if variant == nil then
      local known = table.concat(names, ", ")
      refuse(txn, INVALID_ARGUMENT, VARIANT_HEADER .. ": " .. forced .. " is no variant of " .. name .. " (" .. known .. ")")
      return
    end
  else
    local key = alias.header and header_value(txn, alias.header)
    if key == nil and alias.input and body then
      key = input_value(body, alias.input)
    end
    local bucket
    if key then
      txn:set_var("txn.key", key)
      bucket = string.unpack(">I4", txn.c:sha2(name .. "\0" .. key, 256))
    else
      bucket = random_bucket(txn)
    end
    for _, share in ipairs(alias.variants) do
      variant = share.model
      if bucket < share.bound then
        break
      end
    end
  end
  if is_grpc and #alias.shadow > 0 and txn.f:req_body_len() == txn.f:req_body_size() then
    for _, share in ipairs(alias.shadow) do
      if random_bucket(txn) < share.bound then
        send_shadow(txn, share.model, txn.f:path(), body)
      end
    end
  end
  txn:set_var("txn.model", variant)
  txn:set_var("txn.variant", variant)
  if is_grpc then
    txn:set_var("txn.rewrite_to", variant)
  end
end)

---------------------------------------------------------------------------------------------- the name in the message

local Rewrite = { id = "the model's name", flags = filter.FLT_CFG_FL_HTX }
Rewrite.__index = Rewrite

function Rewrite:new()
  return setmetatable({ done = false }, Rewrite)
end

function Rewrite:http_headers(txn, message)
  if not message.channel:is_resp() and txn:get_var("txn.rewrite_to") then
    filter.register_data_filter(self, message.channel)
  end
end

function Rewrite:http_payload(txn, message)
  if self.done or message.channel:is_resp() then
    return
  end
  self.done = true
  local head = message:body(0, HEAD_BYTES) or ""
  local spec, spec_length, name, name_length = place_of_name(head)
  if spec == nil then
    return filter.ERROR
  end
  local model = txn:get_var("txn.rewrite_to")
  local new_name = "\x0a" .. to_varint(#model) .. model
  local field = "\x0a" .. to_varint(spec_length - (name + name_length - spec) + #new_name) .. new_name
  local old_end = name + name_length - 1 -- in bytes from the start of the message, prefix included
  local length = string.unpack(">I4", head, 2) - (old_end - 5) + #field
  -- Within a block of the buffer: HAProxy 2.6 puts what is inserted at 0 of a nearly full buffer elsewhere. The first
  -- byte, the flag of compression, is the same before and after.
  local start = string.pack(">I4", length) .. field
  if message:insert(start, 1) ~= #start or message:remove(1 + #start, old_end - 1) ~= old_end - 1 then
    return filter.ERROR -- no room: better no answer than one to another message
  end
end

core.register_filter("rewrite", Rewrite, function(instance)
  return instance
end)

------------------------------------------------------------------------------------------------------- loads on demand

-- Waits until the agent says that the model of a request is routed: it answers one line, "ready" or "STATUS reason".
core.register_action("wake", { "http-req" }, function(txn)
  local model = txn:get_var("txn.model")
  local socket = core.tcp()
  socket:settimeout(math.ceil(WAIT_SECONDS) + 5)
  if not socket:connect(WAKE_SOCKET) then
    refuse(txn, UNAVAILABLE, "model " .. model .. " is not loaded, and the proxy's agent does not answer; try again")
    return
  end
  socket:send(model .. "\n")
  local answer = socket:receive("*l")
  socket:close()
  if answer ~= "ready" then
    refuse(txn, UNAVAILABLE, answer or ("model " .. model .. " is not loaded, and the proxy's agent ended; try again"))
  end
end)
