--! include trail.lua
-- note.lua: writes an operator's action into the audit trail.
-- KEYS none
-- ARGV 1 now (s)  2 what  3 who  4 target
-- RETURNS 1
-- COST O(1)
note(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return 1
