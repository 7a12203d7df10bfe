/*
 * What a BI tool in Java does over JDBC: lists the views with their comments
 * and columns, reads Cyrillic, filters by dates and moments given as
 * parameters, reads moments in its own time zone.  Prints KEY<tab>VALUE lines
 * for test/t/070_clients.pl.
 *
 * usage: java -cp postgresql.jar Jdbc.java URL USER PASSWORD
 */
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.*;
import java.util.*;

public class Jdbc {
	static PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);

	static void say(String key, Object value) {
		out.println(key + "\t" + value);
	}

	public static void main(String[] args) throws Exception {
		try (Connection c = DriverManager.getConnection(args[0], args[1], args[2])) {
			DatabaseMetaData meta = c.getMetaData();
			int views = 0, without = 0;
			try (ResultSet r = meta.getTables(null, "regcrm", "%", new String[] {"VIEW"})) {
				while (r.next()) {
					views++;
					if (r.getString("REMARKS") == null)
						without++;
					if (r.getString("TABLE_NAME").equals("violations"))
						say("remark of violations", r.getString("REMARKS"));
				}
			}
			say("views", views);
			say("views without a remark", without);
			int columns = 0;
			without = 0;
			List<String> odd = new ArrayList<>();
			Set<Integer> plain = Set.of(Types.BIGINT, Types.INTEGER, Types.NUMERIC, Types.VARCHAR, Types.BIT, Types.BOOLEAN, Types.DATE,
				Types.TIMESTAMP, Types.TIMESTAMP_WITH_TIMEZONE);
			try (ResultSet r = meta.getColumns(null, "regcrm", "violations", "%")) {
				while (r.next()) {
					columns++;
					if (r.getString("REMARKS") == null)
						without++;
					if (!plain.contains(r.getInt("DATA_TYPE")) && !r.getString("TYPE_NAME").equals("interval"))
						odd.add(r.getString("COLUMN_NAME"));
				}
			}
			say("columns of violations", columns);
			say("columns without a remark", without);
			say("columns of odd types", odd);

			// a period as two moments, an account as a number, a text as a varchar
			try (PreparedStatement s = c.prepareStatement(
					"SELECT deal_name, manager_name, severity_name, breached_at, late_minutes, breached_day, is_open FROM regcrm.violations"
					+ " WHERE account_id = ? AND breached_at >= ? AND breached_at < ? AND severity = ? ORDER BY breached_at")) {
				s.setLong(1, 9070);
				s.setObject(2, OffsetDateTime.parse("2026-03-10T00:00:00+03:00"));
				s.setObject(3, OffsetDateTime.parse("2026-03-11T00:00:00+03:00"));
				s.setString(4, "critical");
				try (ResultSet r = s.executeQuery()) {
					while (r.next()) {
						say("violation", String.join("|", r.getString(1), r.getString(2), r.getString(3), r.getBigDecimal(5).toPlainString(),
							r.getDate(6).toString(), String.valueOf(r.getBoolean(7))));
						say("instant", r.getObject(4, OffsetDateTime.class).toInstant());
						say("local", r.getTimestamp(4));
					}
				}
			}
			// a day as a date
			try (PreparedStatement s = c.prepareStatement(
					"SELECT manager_name, sum(decided), sum(met) FROM regcrm.manager_scorecard WHERE day BETWEEN ? AND ? GROUP BY manager_name ORDER BY 1")) {
				s.setDate(1, java.sql.Date.valueOf("2026-03-02"));
				s.setObject(2, LocalDate.of(2026, 3, 2));
				try (ResultSet r = s.executeQuery()) {
					while (r.next())
						say("scorecard", r.getString(1) + "|" + r.getLong(2) + "|" + r.getLong(3));
				}
			}
			// a stage as text
			try (PreparedStatement s = c.prepareStatement("SELECT count(*) FROM regcrm.stage_dwell WHERE stage = ?")) {
				s.setString(1, "new");
				try (ResultSet r = s.executeQuery()) {
					r.next();
					say("visits to new", r.getLong(1));
				}
			}
			for (String[] forbidden : new String[][] {
					{"tokens", "SELECT * FROM regcrm.secret"}, {"quarantined pages", "SELECT body FROM regcrm.quarantine"},
					{"writing", "UPDATE regcrm.deal SET name = ''"}, {"waiving", "SELECT regcrm.waive(9070, 1, 'x')"}}) {
				try (Statement s = c.createStatement()) {
					s.execute(forbidden[1]);
					say(forbidden[0], "allowed");
				} catch (SQLException e) {
					say(forbidden[0], e.getSQLState());
				}
			}
		}
	}
}
