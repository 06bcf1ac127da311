"""The structural cues in other languages: German, French, Spanish, Portuguese, Italian, Russian, Chinese, Arabic.

Three orders each, from the same classes as in firewall_structure.py: the assistant's rules are taken away, it is to
show them, it is to be one without any. Honest texts cancel and quote rules, too; so the assistant is addressed, or whoever
made it is named. Expressions are folded like the texts they are for (no accents, and no marks above Cyrillic letters).
"""

from typing import Final

from policies.firewall_cue import Cue

# German
_DE_RULES = "(regeln|vorgaben|anweisung(en)?|richtlinien?|instruktion(en)?|vorschriften|beschrankung(en)?|einschrankung(en)?|konfiguration|filter|grenzen)"
_DE_TEXT = "(text|wortlaut|anweisung(en)?|vorgaben|regeln|richtlinien|konfiguration|systemprompts?|system prompt|systemnachricht|instruktion(en)?)"
_DE_OWNER = "(betreibers?|entwicklers?|herstellers?|schopfers?|anbieters?|programmierers?|entwickler(n|innen)?)"
_DE_SHOW = "(gib|gebe?n?|zeige?|nenne?|schreibe?|wiederhole?|drucke?|kopiere?|verrate?|zitiere?|offenbare?|lies|liste)"
# Romance languages
_FR_RULES = "(regles|consignes|instructions?|directives|restrictions|limites|politiques|contraintes)"
_FR_OWNER = "(developpeurs?|concepteurs?|createurs?|operateurs?|programmeurs?)"
_FR_SHOW = "(affiche[rsz]?|recopie[rsz]?|copie[rsz]?|montre[rsz]?|donne[rsz]?|revele[rsz]?|repete[rsz]?|ecri(s|vez|re)|cite[rsz]?|imprime[rsz]?|reproduis(ez)?)"
_ES_RULES = "(reglas|normas|instrucciones|directrices|restricciones|politicas|indicaciones|limites|regras|instrucoes|diretrizes|restricoes)"
_ES_OWNER = "(desarrollador(es)?|creador(es)?|operador(es)?|programador(es)?|desenvolvedor(es)?|criador(es)?)"
_ES_SHOW = "(muestra(me)?|mostra|mostre|dime|escribe|escreva|imprime|imprima|revela(me)?|revele|repite|repita|copia|copie|ensena(me)?|dame|enumera|cita|reproduce)"
_IT_RULES = "(regole|istruzioni|direttive|restrizioni|limiti|politiche|indicazioni)"
# Russian: endings are left open
_RU_RULES = "(правил|инструкци|указани|ограничени|политик|установк|настроек|настроик|запрет)[^ ]*"
_RU_OWNER = "(разработчик|создател|оператор|владел|программист)[^ ]*"
_RU_SHOW = (
    "(выведи|покажи|напечатаи|раскрои|повтори|скопируи|процитируи|назови|перескажи|напиши|перечисли|приведи)(те)?"
)
# Chinese: no blanks between words; three bytes a character
_ZH_RULES = "(规则|规定|指令|指示|限制|约束|政策|提示词|设定|准则|要求)"
_ZH_OWNER = "(开发者|开发人员|运营商|运营者|管理员|创造者|制造商|厂商)"
_ZH_SHOW = "(输出|显示|打印|告诉我|复述|重复|写出|给我看|公布|透露|泄露|列出|展示|提供|说出|发给我)"
_ZH_TEXT = "(系统提示|提示词|系统消息|系统指令|初始指令|隐藏指令|隐藏的指令|内部指令|你的指令|你的设定|你的规则|你的配置|你收到的指令)"
# Arabic
_AR_RULES = "(ال|و)?(تعليمات|قواعد|أوامر|اوامر|توجيهات|سياسات|قيود|ضوابط)[^ ]*"
_AR_OWNER = "(المطور|المشغل|المبرمج|الشركة|النظام|صانع)[^ ]*"
_AR_SHOW = "(اعرض|أظهر|اظهر|اكتب|اطبع|اكشف|كرر|انسخ|أخبرني|اذكر|أعطني|اعطني)[^ ]*"

LANGUAGES: Final[tuple[Cue, ...]] = (
    Cue(
        "rules-taken-away-other-languages",
        1.0,
        (
            f" {_DE_RULES} W{{2}}(deines|deiner|ihres|eures|des) {_DE_OWNER} W{{6}}(nicht|keine|ungultig|aufgehoben|egal|hinfallig) ",
            f" (gelten|gilt|zahlen|binden) W{{2}}(deine|die) {_DE_RULES} (deines {_DE_OWNER} |fur dich ){{1,2}}W{{2}}nicht ",
            f" (gelten|gilt) W{{6}}{_DE_RULES} W{{2}}(deines|eures) {_DE_OWNER} ",
            f" (ignoriere?|missachte|vergiss|umgehe?|verwirf|befolge?|beachte?) (alle |jede |samtliche |nicht (mehr )?)?(deine|die) {_DE_RULES} W{{3}}(deines {_DE_OWNER}|die du|nicht)? ",
            f" (du bist|sie sind) W{{2}}nicht (mehr |langer )?an W{{3}}{_DE_RULES} (gebunden|gehalten) ",
            f" ne (tiens|tenez|suis|suivez|respecte[sz]?|applique[sz]?|obeis) (plus|pas) W{{4}}{_FR_RULES} W{{6}}(t a|t ont|vous a|tu|ton|ta|tes|{_FR_OWNER}|recues) ",
            f" (ignore[sz]?|oublie[sz]?|contourne[sz]?|enfreins|abandonne[sz]?) (toutes |tous )?(tes|vos|les) {_FR_RULES} W{{4}}({_FR_OWNER}|tu as|vous avez|t a|t ont|recues|donnees|initiales) ",
            f" (tes|vos) {_FR_RULES} (ne s appliquent plus|ne sont plus valables|sont (annulees|levees|suspendues)) ",
            f" (no|nao) (sigas|siga|obedezcas|obedeca|respetes|respeite|apliques|aplique) (mas |ya )?W{{2}}{_ES_RULES} W{{3}}(tu|tus|teu|seu|su|{_ES_OWNER}|te dieron|te dio|recibiste) ",
            f" (ignora|ignore|olvida|esqueca|desobedece|descarta|deja de (seguir|obedecer|aplicar)|pare de seguir) W{{2}}{_ES_RULES} (de |que |do )?W{{1}}(tu|tus|teu|seu|{_ES_OWNER}|te dieron|te han dado|recibiste|recebeu) ",
            f" (tus|suas) {_ES_RULES} (ya no|nao mais|ya no se|quedan|estan) (aplican|valen|valem|anuladas|suspendidas|canceladas) ",
            f" (ignora|dimentica|non seguire|non rispettare|smetti di seguire) W{{3}}{_IT_RULES} W{{3}}(sviluppatore|creatore|operatore|che hai ricevuto|che ti hanno|tue) ",
            f" {_RU_RULES} W{{2}}{_RU_OWNER} W{{4}}(не|больше|отменен[^ ]*|недеиствительн[^ ]*) ",
            f" (не следуи|не соблюдаи|перестань следовать|перестань соблюдать|забудь|игнорируи|отбрось|наруш(ь|аи)|обоиди|отмени) W{{3}}({_RU_RULES} W{{2}}{_RU_OWNER}|(свои|твои|своих|твоих) {_RU_RULES}) ",
            f" (твои|все твои) {_RU_RULES} (больше )?(не деиству[^ ]*|отменен[^ ]*|снят[^ ]*) ",
            f"你.{{0,12}}(不再|不必|不用|无需|不需要).{{0,12}}(受|遵守|遵循|服从|听从|理会).{{0,24}}{_ZH_RULES}",
            f"(忽略|无视|忘记|忘掉|抛开|抛弃|绕过|违反|取消|不要遵守|不要遵循).{{0,18}}(你的|{_ZH_OWNER}).{{0,18}}{_ZH_RULES}",
            f"{_ZH_OWNER}.{{0,18}}{_ZH_RULES}.{{0,18}}(无效|作废|失效|不适用|取消)",
            f" (تجاهل|انس|انسى|لا تتبع|لا تلتزم|توقف عن اتباع|اهمل|أهمل|تخطى|تجاوز|خالف)[^ ]* W{{2}}(ب)?{_AR_RULES} W{{4}}({_AR_OWNER}|أعطاك[^ ]*|تلقيتها|لديك|الخاصة بك|المعطاة) ",
            f" {_AR_RULES} W{{2}}{_AR_OWNER} W{{3}}(لم تعد|لا تنطبق|ملغاة|لاغية) ",
        ),
    ),
    Cue(
        "shows-its-rules-other-languages",
        1.0,
        (
            f" {_DE_SHOW} W{{6}}{_DE_TEXT} W{{4}}(vor (diesem|unserem|dem) (gesprach|chat|dialog)|vor meiner (ersten )?(nachricht|frage)|(die|den) du (bekommen|erhalten|hast)|dir (gegeben|mitgegeben|vorgegeben)) ",
            f" {_DE_SHOW} W{{4}}(deine[nrms]?|dein) W{{2}}(geheime?[nr]?|versteckte?[nr]?|vollstandige?[nr]?|ursprungliche?[nr]?|interne?[nr]?)? ?(systemprompt|system prompt|systemnachricht|systemanweisung(en)?|startanweisung(en)?|konfiguration|vorgaben|anweisungen) ",
            f" {_FR_SHOW} W{{6}}({_FR_RULES} W{{2}}(que )?(tu as|vous avez|t a|t ont|vous ont|recues|initiales|cachees|secretes)|(message|prompt|invite) systeme|ton prompt|votre prompt|ta configuration|votre configuration) ",
            f" {_ES_SHOW} W{{6}}({_ES_RULES} (que )?(te|recibiste|recebeu|iniciales|ocultas|secretas|internas|iniciais)|(mensaje|mensagem|prompt) del? (sistema|sistem)|(tu|su|sua) (prompt|configuracion|configuracao)|(texto )W{{2}}de (tu|su|sua) (configuracion|configuracao|prompt)) ",
            " (mostra|mostrami|stampa|rivela|ripeti|scrivi|copia) W{5}(prompt di sistema|messaggio di sistema|istruzioni (iniziali|nascoste|segrete|che hai ricevuto)|la tua configurazione) ",
            f" {_RU_SHOW} W{{5}}(системн[^ ]* (промпт|сообщени|инструкци|подсказк)[^ ]*|промпт[^ ]*|(свои|твои|своих|скрыт|секретн|исходн|начальн|внутренн)[^ ]* ({_RU_RULES}|инструкци[^ ]*|настроик[^ ]*|текст[^ ]*)) ",
            f"{_ZH_SHOW}.{{0,30}}{_ZH_TEXT}",
            f"把.{{0,18}}{_ZH_TEXT}.{{0,24}}{_ZH_SHOW}",
            f" {_AR_SHOW} W{{4}}((نص|محتوى) )?{_AR_RULES} W{{2}}(السرية|المخفية|الأولية|الاولية|الداخلية|الأصلية|الخاصة بك|التي تلقيتها|التي أعطيت لك|النظام) ",
            f" {_AR_SHOW} W{{4}}(رسالة|موجه|مطالبة) (النظام|نظامك) ",
        ),
    ),
    Cue(
        "no-limits-other-languages",
        1.0,
        (
            " (du bist|stell dir vor|tu so|spiele?|verhalte dich|agiere|antworte) W{10}(ki|ai|assistent|modell|chatbot|bot|sprachmodell) W{3}(ohne|frei von|keine[rn]?) W{2}(einschrankungen|beschrankungen|filter|regeln|grenzen|zensur|tabus) ",
            " (ohne|keine) (jede |jegliche )?(einschrankungen|beschrankungen|filter|zensur) W{4}(antworte[sn]?t?|beantworte[sn]?t?|auf alles|alles) ",
            " (tu es|imagine|joue|fais comme si|comporte toi|agis|reponds|vous etes) W{10}(ia|intelligence artificielle|assistant|modele|chatbot|bot) W{3}(sans|aucune?|depourvue?) W{1}(restrictions?|filtres?|limites?|regles|censure) ",
            " (eres|actua|actuas|haz como|imagina|finge|fingir|responde|se|aja como|finja) W{8}(ia|inteligencia artificial|asistente|assistente|modelo|chatbot|bot) W{3}(sin|sem|libre de|livre de) W{1}(filtros|restricciones|limites|censura|reglas|restricoes|regras) ",
            " (sei|immagina|fingi|agisci|rispondi) W{8}(ia|intelligenza artificiale|assistente|modello|chatbot) W{2}(senza|privo di) W{1}(filtri|restrizioni|limiti|regole|censura) ",
            " (ты|представь|притворись|веди себя|деиствуи|отвечаи|играи)(те)? W{8}(нет|без|лишен[^ ]*|никаких) W{3}(ограничени|фильтр|цензур|запрет|правил)[^ ]* W{8}(отвеча|отказ|модел|ассистент|помощник|ии|бот|все)[^ ]* ",
            " (ты|представь|притворись|веди себя|деиствуи|отвечаи|играи)(те)? W{8}(модел|ассистент|помощник|ии|бот|чатбот)[^ ]* W{3}(без|лишен[^ ]*) W{2}(ограничени|фильтр|цензур|запрет|правил)[^ ]* ",
            "(扮演|假装|假设你|你现在是|想象你|充当|作为).{0,30}(没有|不受|毫无|无|不带).{0,15}(限制|约束|过滤|审查|道德).{0,30}(人工智能|助手|模型|机器人|ai|回答)",
            "(绝不|不会|不要|不能|从不).{0,6}拒绝.{0,15}(任何|所有|一切).{0,12}(请求|问题|要求)",
            " (تصرف|تخيل|تظاهر|كأنك|أنت|كن)[^ ]* W{6}(نموذج|ذكاء|مساعد|روبوت)[^ ]* W{4}(بلا|بدون|دون|لا يخضع) W{1}(أي |اي )?(قيود|حدود|رقابة|فلاتر|مرشحات|ضوابط) ",
        ),
    ),
)
