
-- ---------------------------------------------------------------------------
-- type stage
-- ---------------------------------------------------------------------------

CREATE TYPE regcrm.stage;

CREATE FUNCTION regcrm.stage_in(cstring) RETURNS regcrm.stage
	AS 'MODULE_PATHNAME', 'regcrm_stage_in'
	LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_in(cstring) IS
	'Text to stage: a code, or a stage''s name or alias in stage_def, ignoring case, surrounding blanks and ё/е. Error 22P02 for text that is no known stage; while stage_def is empty or absent, any well-formed code is taken.';

CREATE FUNCTION regcrm.stage_out(regcrm.stage) RETURNS cstring
	AS 'MODULE_PATHNAME', 'regcrm_stage_out'
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_out(regcrm.stage) IS
	'Stage to its code. Reads no table.';

CREATE FUNCTION regcrm.stage_recv(internal) RETURNS regcrm.stage
	AS 'MODULE_PATHNAME', 'regcrm_stage_recv'
	LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_recv(internal) IS
	'Stage from the binary protocol. Error 22P03 for a code that is no known stage.';

CREATE FUNCTION regcrm.stage_send(regcrm.stage) RETURNS bytea
	AS 'MODULE_PATHNAME', 'regcrm_stage_send'
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_send(regcrm.stage) IS
	'Stage to the binary protocol.';

CREATE TYPE regcrm.stage (
	INPUT = regcrm.stage_in,
	OUTPUT = regcrm.stage_out,
	RECEIVE = regcrm.stage_recv,
	SEND = regcrm.stage_send,
	INTERNALLENGTH = 8,
	PASSEDBYVALUE,
	ALIGNMENT = double,
	STORAGE = plain
);
COMMENT ON TYPE regcrm.stage IS
	'Stage of a deal: a code of up to 12 characters a-z 0-9 _, packed into 8 bytes, so that a value means the same in every database, dump and index. Order is that of the code''s bytes; the order of the pipeline is stage_def.position.';

CREATE FUNCTION regcrm.stage_eq(regcrm.stage, regcrm.stage) RETURNS boolean
	AS 'MODULE_PATHNAME', 'regcrm_stage_eq'
	LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_eq(regcrm.stage, regcrm.stage) IS 'implementation of = operator';

CREATE FUNCTION regcrm.stage_ne(regcrm.stage, regcrm.stage) RETURNS boolean
	AS 'MODULE_PATHNAME', 'regcrm_stage_ne'
	LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_ne(regcrm.stage, regcrm.stage) IS 'implementation of <> operator';

CREATE FUNCTION regcrm.stage_lt(regcrm.stage, regcrm.stage) RETURNS boolean
	AS 'MODULE_PATHNAME', 'regcrm_stage_lt'
	LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_lt(regcrm.stage, regcrm.stage) IS 'implementation of < operator';

CREATE FUNCTION regcrm.stage_le(regcrm.stage, regcrm.stage) RETURNS boolean
	AS 'MODULE_PATHNAME', 'regcrm_stage_le'
	LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_le(regcrm.stage, regcrm.stage) IS 'implementation of <= operator';

CREATE FUNCTION regcrm.stage_gt(regcrm.stage, regcrm.stage) RETURNS boolean
	AS 'MODULE_PATHNAME', 'regcrm_stage_gt'
	LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_gt(regcrm.stage, regcrm.stage) IS 'implementation of > operator';

CREATE FUNCTION regcrm.stage_ge(regcrm.stage, regcrm.stage) RETURNS boolean
	AS 'MODULE_PATHNAME', 'regcrm_stage_ge'
	LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_ge(regcrm.stage, regcrm.stage) IS 'implementation of >= operator';

CREATE FUNCTION regcrm.stage_cmp(regcrm.stage, regcrm.stage) RETURNS integer
	AS 'MODULE_PATHNAME', 'regcrm_stage_cmp'
	LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_cmp(regcrm.stage, regcrm.stage) IS 'less-equal-greater, for btree';

CREATE FUNCTION regcrm.stage_hash(regcrm.stage) RETURNS integer
	AS 'MODULE_PATHNAME', 'regcrm_stage_hash'
	LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_hash(regcrm.stage) IS 'hash';

CREATE FUNCTION regcrm.stage_hash_extended(regcrm.stage, bigint) RETURNS bigint
	AS 'MODULE_PATHNAME', 'regcrm_stage_hash_extended'
	LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_hash_extended(regcrm.stage, bigint) IS 'hash with a seed';

CREATE OPERATOR regcrm.= (
	LEFTARG = regcrm.stage, RIGHTARG = regcrm.stage, FUNCTION = regcrm.stage_eq,
	COMMUTATOR = OPERATOR(regcrm.=), NEGATOR = OPERATOR(regcrm.<>),
	RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES
);
COMMENT ON OPERATOR regcrm.= (regcrm.stage, regcrm.stage) IS 'equal';

CREATE OPERATOR regcrm.<> (
	LEFTARG = regcrm.stage, RIGHTARG = regcrm.stage, FUNCTION = regcrm.stage_ne,
	COMMUTATOR = OPERATOR(regcrm.<>), NEGATOR = OPERATOR(regcrm.=),
	RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR regcrm.<> (regcrm.stage, regcrm.stage) IS 'not equal';

CREATE OPERATOR regcrm.< (
	LEFTARG = regcrm.stage, RIGHTARG = regcrm.stage, FUNCTION = regcrm.stage_lt,
	COMMUTATOR = OPERATOR(regcrm.>), NEGATOR = OPERATOR(regcrm.>=),
	RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR regcrm.< (regcrm.stage, regcrm.stage) IS 'less than, by code';

CREATE OPERATOR regcrm.<= (
	LEFTARG = regcrm.stage, RIGHTARG = regcrm.stage, FUNCTION = regcrm.stage_le,
	COMMUTATOR = OPERATOR(regcrm.>=), NEGATOR = OPERATOR(regcrm.>),
	RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR regcrm.<= (regcrm.stage, regcrm.stage) IS 'less than or equal, by code';

CREATE OPERATOR regcrm.> (
	LEFTARG = regcrm.stage, RIGHTARG = regcrm.stage, FUNCTION = regcrm.stage_gt,
	COMMUTATOR = OPERATOR(regcrm.<), NEGATOR = OPERATOR(regcrm.<=),
	RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR regcrm.> (regcrm.stage, regcrm.stage) IS 'greater than, by code';

CREATE OPERATOR regcrm.>= (
	LEFTARG = regcrm.stage, RIGHTARG = regcrm.stage, FUNCTION = regcrm.stage_ge,
	COMMUTATOR = OPERATOR(regcrm.<=), NEGATOR = OPERATOR(regcrm.<),
	RESTRICT = scalargesel, JOIN = scalargejoinsel
);
COMMENT ON OPERATOR regcrm.>= (regcrm.stage, regcrm.stage) IS 'greater than or equal, by code';

CREATE OPERATOR CLASS regcrm.stage_ops
	DEFAULT FOR TYPE regcrm.stage USING btree AS
	OPERATOR 1 regcrm.<,
	OPERATOR 2 regcrm.<=,
	OPERATOR 3 regcrm.=,
	OPERATOR 4 regcrm.>=,
	OPERATOR 5 regcrm.>,
	FUNCTION 1 regcrm.stage_cmp(regcrm.stage, regcrm.stage),
	FUNCTION 4 btequalimage(oid);
COMMENT ON OPERATOR CLASS regcrm.stage_ops USING btree IS 'stages in the order of their codes';

CREATE OPERATOR CLASS regcrm.stage_ops
	DEFAULT FOR TYPE regcrm.stage USING hash AS
	OPERATOR 1 regcrm.=,
	FUNCTION 1 regcrm.stage_hash(regcrm.stage),
	FUNCTION 2 regcrm.stage_hash_extended(regcrm.stage, bigint);
COMMENT ON OPERATOR CLASS regcrm.stage_ops USING hash IS 'stages by hash';

CREATE FUNCTION regcrm.stage_to_text(regcrm.stage) RETURNS text
	AS 'MODULE_PATHNAME', 'regcrm_stage_to_text'
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.stage_to_text(regcrm.stage) IS 'The stage''s code as text.';

CREATE FUNCTION regcrm.text_to_stage(text) RETURNS regcrm.stage
	AS 'MODULE_PATHNAME', 'regcrm_text_to_stage'
	LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.text_to_stage(text) IS
	'A code, name or alias to the stage, as the type''s input does. Error 22P02 for text that is no known stage.';

CREATE CAST (regcrm.stage AS text) WITH FUNCTION regcrm.stage_to_text(regcrm.stage) AS IMPLICIT;
COMMENT ON CAST (regcrm.stage AS text) IS 'the stage''s code';

CREATE CAST (text AS regcrm.stage) WITH FUNCTION regcrm.text_to_stage(text) AS ASSIGNMENT;
COMMENT ON CAST (text AS regcrm.stage) IS 'a code, name or alias of a stage';

-- JDBC sends strings as varchar
CREATE CAST (varchar AS regcrm.stage) WITH FUNCTION regcrm.text_to_stage(text) AS ASSIGNMENT;
COMMENT ON CAST (varchar AS regcrm.stage) IS 'a code, name or alias of a stage';

CREATE FUNCTION regcrm.fold_name(text) RETURNS text
	AS 'MODULE_PATHNAME', 'regcrm_fold_name'
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION regcrm.fold_name(text) IS
	'A name as the type''s input compares it: in lower case, ё as е, no blanks around it, single ones within. The same in every locale.';
