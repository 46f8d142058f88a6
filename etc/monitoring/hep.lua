-- HEPv3 for Wireshark and tshark, which do not know it: shows the chunks and reads the message.
--   tshark -X lua_script:etc/monitoring/hep.lua -d udp.port==9060,hep3 -i lo -f "port 9060"
local hep = Proto("hep3", "Homer Encapsulation Protocol 3")

local families = {[2] = "IPv4", [10] = "IPv6"}
local fields = {
  [1] = ProtoField.uint8("hep3.family", "IP family", base.DEC, families),
  [2] = ProtoField.uint8("hep3.protocol", "IP protocol"),
  [3] = ProtoField.ipv4("hep3.src", "Source"),
  [4] = ProtoField.ipv4("hep3.dst", "Destination"),
  [5] = ProtoField.ipv6("hep3.src6", "Source"),
  [6] = ProtoField.ipv6("hep3.dst6", "Destination"),
  [7] = ProtoField.uint16("hep3.srcport", "Source port"),
  [8] = ProtoField.uint16("hep3.dstport", "Destination port"),
  [9] = ProtoField.uint32("hep3.seconds", "Seconds"),
  [10] = ProtoField.uint32("hep3.microseconds", "Microseconds"),
  [11] = ProtoField.uint8("hep3.kind", "Payload type"),
  [12] = ProtoField.uint32("hep3.capture_id", "Capture id"),
  [14] = ProtoField.string("hep3.key", "Key"),
  [15] = ProtoField.bytes("hep3.payload", "Payload"),
  [17] = ProtoField.string("hep3.correlation", "Correlation id"),
}
local unknown = ProtoField.bytes("hep3.chunk", "Other chunk")
local length_field = ProtoField.uint16("hep3.length", "Length")
hep.fields = {length_field, unknown}
for _, field in pairs(fields) do hep.fields[#hep.fields + 1] = field end
local broken = ProtoExpert.new("hep3.broken", "Broken chunk", expert.group.MALFORMED,
                               expert.severity.ERROR)
hep.experts = {broken}

local function dissect_one(buffer, pinfo, tree)
  local total = buffer(4, 2):uint()
  local branch = tree:add(hep, buffer(0, total))
  branch:add(length_field, buffer(4, 2))
  local at, message = 6, nil
  while at + 6 <= total do
    local vendor, kind = buffer(at, 2):uint(), buffer(at + 2, 2):uint()
    local size = buffer(at + 4, 2):uint()
    if size < 6 or at + size > total then
      branch:add_proto_expert_info(broken)
      return total
    end
    if size > 6 then
      local value = buffer(at + 6, size - 6)
      local field = vendor == 0 and fields[kind] or unknown
      branch:add(field, value)
      if vendor == 0 and kind == 15 then message = value end
    end
    at = at + size
  end
  pinfo.cols.protocol = "HEP3"
  if message then Dissector.get("sip"):call(message:tvb(), pinfo, tree) end
  return total
end

function hep.dissector(buffer, pinfo, tree)
  local at = 0
  while at < buffer:len() do
    local left = buffer:len() - at
    if left < 6 then
      pinfo.desegment_offset, pinfo.desegment_len = at, DESEGMENT_ONE_MORE_SEGMENT
      return
    end
    if buffer(at, 4):string() ~= "HEP3" then return at end
    local total = buffer(at + 4, 2):uint()
    if total < 6 then return at end
    if total > left then
      pinfo.desegment_offset, pinfo.desegment_len = at, total - left
      return
    end
    at = at + dissect_one(buffer(at, total):tvb(), pinfo, tree)
  end
  return at
end

DissectorTable.get("udp.port"):add_for_decode_as(hep)
DissectorTable.get("tcp.port"):add_for_decode_as(hep)
