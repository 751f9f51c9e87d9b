"""Which functions HogQL lets through to the engine, now and in 2023; what it does not know never reaches ClickHouse.

Knows names and how many arguments a few of them take; knows no engine. Sources: PostHog's documentation of its SQL
functions, and what servers of 2023 were seen to refuse.
"""

import re

LITERAL = re.compile(r"'(?:[^'\\]|\\.|'')*'", re.DOTALL)
CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")
# What a bracket may follow in plain SQL.
SYNTAX = "and as between by case distinct else from having in like not on or select then values when where"

ARITHMETIC = "abs divide gcd intDiv intDivOrZero lcm minus modulo moduloOrZero multiply negate plus positiveModulo"
COMPARISONS = "equals greater greaterOrEquals greatest least less lessOrEquals notEquals"
ROUNDING = "ceil exp exp2 exp10 floor ln log log2 log10 pow power round sign sqrt trunc"
CONVERSIONS = "toDate toDateTime toDecimal toFloat toInt toJSONString toString toUUID parseDateTimeBestEffort"
TIMES = """
 addDays addHours addMinutes addMonths addSeconds addWeeks addYears age dateAdd dateDiff dateSub dateTrunc
 formatDateTime fromUnixTimestamp now subtractDays subtractHours subtractMinutes timeZoneOf timeZoneOffset toDayOfMonth
 toDayOfWeek toDayOfYear toHour toIntervalDay toIntervalHour toIntervalMinute toIntervalSecond toISOWeek toMinute
 toMonday toMonth toQuarter toSecond toStartOfDay toStartOfFiveMinutes toStartOfHour toStartOfMinute toStartOfMonth
 toStartOfSecond toStartOfWeek toStartOfYear today toTimeZone toUnixTimestamp toUnixTimestamp64Milli toWeek toYYYYMM
 toYYYYMMDD toYear yesterday
"""
TEXTS = """
 ascii base64Decode base64Encode concat countSubstrings empty endsWith extract ilike isValidUTF8 leftPad length
 lengthUTF8 like lower lowerUTF8 match notEmpty notILike notLike position positionCaseInsensitive positionUTF8 repeat
 replaceAll replaceOne replaceRegexpAll replaceRegexpOne reverse reverseUTF8 splitByChar splitByString startsWith
 substring substringUTF8 trim trimLeft trimRight upper upperUTF8
"""
BITS = "bitAnd bitCount bitNot bitOr bitShiftLeft bitShiftRight bitTest bitXor"
CHOICES = "assumeNotNull coalesce if ifNull isNotNull isNull multiIf nullIf toNullable transform tuple tupleElement"
LISTS = """
 array arrayConcat arrayCount arrayDistinct arrayElement arrayExists arrayFilter arrayFlatten arrayJoin arrayMap
 arrayMax arrayMin arrayReverse arraySlice arraySort arrayStringConcat arraySum arrayUniq arrayZip has hasAll hasAny
 indexOf range
"""
JSON = "isValidJSON JSONExtractBool JSONExtractFloat JSONExtractInt JSONExtractRaw JSONExtractString JSONHas JSONLength JSONType"
AGGREGATES = """
 any anyLast argMax argMaxIf argMin argMinIf avg avgIf count countIf groupArray groupArrayIf groupUniqArray max maxIf
 median min minIf quantile sum sumIf uniq uniqExact uniqExactIf uniqIf
"""
THEN = " ".join((ARITHMETIC, COMPARISONS, ROUNDING, CONVERSIONS, TIMES, TEXTS, BITS, CHOICES, LISTS, JSON, AGGREGATES))
SINCE_THEN = """
 cityHash64 groupBitAnd groupBitOr groupBitXor hex numbers reinterpretAsInt64 reinterpretAsUInt64 sumWithOverflow
 toDateTime64 toStartOfInterval toUnixTimestamp64Micro unhex
"""
# In 2023 a text was read in the project's zone only, and several columns were counted as a tuple.
ONE_ARGUMENT_THEN = frozenset({"toDate", "toDateTime", "toStartOfHour", "uniqExact"})


def refusal(sql: str, *, older: bool) -> str | None:
    """Why HogQL does not let *sql* through, or None."""
    syntax, known = SYNTAX.split(), {*THEN.split(), *("" if older else SINCE_THEN).split()}
    blank = LITERAL.sub(lambda found: "'" + "_" * (len(found[0]) - 2) + "'", sql)
    for found in CALL.finditer(blank):
        name = found[1]
        if name.lower() in syntax:
            continue
        if name not in known:
            hint = ". Perhaps you meant 'toDateTime(...)'?" if name == "toDateTime64" else ""
            return f"Unsupported function call '{name}(...)'{hint}"
        if older and name in ONE_ARGUMENT_THEN and (count := _arguments(blank[found.end() :])) != 1:
            kind = "Aggregation" if name == "uniqExact" else "Function"
            return f"{kind} '{name}' expects 1 argument, found {count}"
    return None


def _arguments(rest: str) -> int:
    """How many arguments stand before the bracket that closes the call."""
    depth, commas = 0, 0
    for sign in rest:
        if sign == ")" and depth == 0:
            break
        depth += (sign in "([") - (sign in ")]")
        commas += sign == "," and depth == 0
    return commas + 1
