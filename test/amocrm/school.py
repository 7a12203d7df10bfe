"""The school's amoCRM account as its administrator set it up: users, pipelines, fields, dictionaries.

Constants only.  Names of stages and fields are those of the regulation; ids are invented.
"""

from dataclasses import dataclass

ACCOUNT_ID = 30111222
SUBDOMAIN = "avtoshkola"
FOUNDED = 1_700_000_000

# ---------------------------------------------------------------------------- people


@dataclass(frozen=True)
class User:
    id: int
    name: str
    group_id: int
    discipline: float       # 1 = never chosen for a breach, 0 = a favourite
    admin: bool = False


GROUPS = {0: "Отдел продаж", 410002: "Отдел продаж: вечерняя группа"}

CHIEF = User(8010000, "Ольга Руководитель", 0, 1.0, admin=True)
TELEPHONY = User(8010099, "Телефония", 0, 1.0)

MANAGERS = tuple(User(8010001 + i, name, group, discipline) for i, (name, group, discipline) in enumerate((
    ("Анна Белова", 0, .97), ("Борис Титов", 0, .95), ("Вера Соколова", 0, .92), ("Глеб Орлов", 0, .88),
    ("Дарья Ким", 0, .80), ("Егор Лапин", 0, .60), ("Жанна Розова", 410002, .96), ("Захар Мельник", 410002, .90),
    ("Инна Гусева", 410002, .85), ("Кирилл Дёмин", 410002, .70), ("Лилия Шарипова", 410002, .45),
    ("Максим Чудов", 410002, .30))))

USERS = (CHIEF, *MANAGERS, TELEPHONY)

# ---------------------------------------------------------------------------- pipelines

SALES, CORPORATE = 7001001, 7001002
WON, LOST = 142, 143
UNSORTED, UNMAPPED = 61000001, 61000050

#: our word for a stage (the regulation's code) -> (status id, name in amoCRM)
STAGES = {
    "new": (61000010, "Новые заявки (лиды)"),
    "in_work": (61000011, "Взято в работу"),
    "no_answer": (61000012, "Не было 1 касания"),
    "messaging": (61000013, "Ведётся переписка"),
    "deciding": (61000014, "Принимает решение"),
    "meeting": (61000015, "Встреча назначена"),
    "contract": (61000016, "Онлайн договор"),
    "deferred": (61000017, "Отложенный спрос"),
    "unqualified": (61000018, "Не целевой"),
    "won": (WON, "Заключен договор"),
    "lost": (LOST, "Не продали"),
}

CLOSED_STATUSES = (WON, LOST)

CORPORATE_STATUSES = ((62000001, "Неразобранное", 1), (62000010, "Первичный запрос", 0), (62000011, "КП отправлено", 0),
                      (62000012, "Согласование у юристов", 0), (WON, "Успешно реализовано", 0),
                      (LOST, "Закрыто и не реализовано", 0))

SALES_STATUSES = ((UNSORTED, "Неразобранное", 1),
                  *((id_, name, 0) for code, (id_, name) in STAGES.items() if code not in ("won", "lost")),
                  (UNMAPPED, "Ждёт ответа банка", 0),
                  (WON, STAGES["won"][1], 0), (LOST, STAGES["lost"][1], 0))

# ---------------------------------------------------------------------------- custom fields


@dataclass(frozen=True)
class Field:
    id: int
    name: str
    type: str
    enums: tuple = ()           # ((enum id, text), …)

    def enum(self, text: str) -> int:
        return next(id_ for id_, value in self.enums if value == text)


def _enums(first: int, *texts: str) -> tuple:
    return tuple((first + i, text) for i, text in enumerate(texts))


SCENARIO_NAMES = {"no_answer": "Недозвон", **{code: STAGES[code][1] for code in (
    "in_work", "messaging", "deciding", "meeting", "contract", "deferred", "lost", "unqualified")}}

LOSS_REASONS = ((550001, "Дорого"), (550002, "Выбрал другую автошколу"), (550003, "Передумал учиться"))

FIELDS = {
    "lead_date": Field(720001, "Дата создания лида", "date"),
    "lost_reason": Field(720002, "Причина отказа", "select", _enums(
        9300001, "Дорого", "Далеко ехать", "Выбрал другую автошколу", "Передумал учиться")),
    "nq_reason": Field(720003, "Причина нецелевки", "select", _enums(
        9300101, "Не дозвонились", "Нет 16 лет", "Спам", "Ошиблись номером", "Нужны права тракториста")),
    "pause_reason": Field(720004, "Причина паузы", "textarea"),
    "meeting_at": Field(720005, "Дата встречи", "date_time"),
    "return_on": Field(720006, "Срок возврата", "date"),
    "agreed_at": Field(720007, "Согласие на договор", "checkbox"),
    "signed_at": Field(720008, "Договор подписан", "date_time"),
    "paid_at": Field(720009, "Оплата получена", "checkbox"),
    "skip_task_check": Field(720010, "Не проверять задачи", "checkbox"),
    "scenario": Field(720011, "Сценарий", "select", _enums(9300201, *SCENARIO_NAMES.values())),
    # nothing of the regulation speaks of these
    "category": Field(720020, "Категория прав", "select", _enums(9300301, "A", "B", "C", "D")),
    "branch": Field(720021, "Филиал", "text"),
    "extras": Field(720022, "Дополнительно", "multiselect", _enums(9300401, "Автомат", "Вождение по выходным", "Онлайн-теория")),
    "utm_source": Field(720023, "utm_source", "tracking_data"),
    "score": Field(720024, "Скоринг", "numeric"),
    "novelty": Field(720025, "Цифровой след", "hologram"),     # a type the reference does not know
}

#: numbers of field types as events show them
FIELD_TYPE_NUMBER = {"text": 1, "numeric": 2, "checkbox": 3, "select": 4, "multiselect": 5, "date": 6, "textarea": 9,
                     "date_time": 19, "tracking_data": 23, "hologram": 77}

PHONE = Field(720501, "Телефон", "multitext", ((9309001, "WORK"), (9309002, "MOB")))

# ---------------------------------------------------------------------------- tasks, sources, tags

TASK_TYPES = ((1, "Связаться", "FOLLOW_UP"), (2, "Встреча", "MEETING"), (2610101, "Контроль договора", None))

#: kind of task -> (type, texts)
TASKS = {
    "process_request": (1, ("Обработать заявку",)),
    "callback": (1, ("Перезвонить клиенту", "Перезвонить: не дозвонились")),
    "meeting_control": (2, ("Контроль встречи",)),
    "contract_control": (2610101, ("Контроль договора", "Проконтролировать оплату")),
    "other": (1, ("Связаться с клиентом", "Узнать решение", "Вернуться к клиенту", "Напомнить о себе")),
}

SOURCES = ((77001, "Сайт"), (77002, "Авито"), (77003, "WhatsApp"), (77004, "Телефония"))
TAGS = ((41001, "авито"), (41002, "повторный"), (41003, "акция"))
